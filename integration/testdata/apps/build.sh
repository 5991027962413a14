# gcc and make on the mount: objects, archive, program; times order the work.

work() {
	for i in $(seq 12); do
		echo "int f$i(void) { return $i; }" >f$i.c
	done
	{
		for i in $(seq 12); do echo "int f$i(void);"; done
		echo '#include <stdio.h>'
		echo 'int main(void) { int s = 0;'
		for i in $(seq 12); do echo "s += f$i();"; done
		echo 'printf("%d\n", s); return 0; }'
	} >main.c
	cat >Makefile <<-'END'
		.RECIPEPREFIX := >
		objects := $(patsubst %,f%.o,$(shell seq 12))
		sum: main.o libf.a
		>gcc -o $@ main.o -L. -lf
		libf.a: $(objects)
		>ar rcs $@ $^
		%.o: %.c
		>gcc -O1 -c -o $@ $<
	END
	make -s -j 4
	equal "$(./sum)" 78
	make -q || die "make finds work to do right after make"
	sleep 1.1
	echo 'int f1(void) { return 101; }' >f1.c
	equal "$(make -n | grep -c 'gcc -O1 -c')" 1 "files to compile again"
	make -s
	equal "$(./sum)" 178
}

verify() {
	equal "$(./sum)" 178
	make -q || die "make finds work to do"
	equal "$(ar t libf.a | wc -l)" 12
}
