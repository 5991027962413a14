# mmap: shared and private, read and written, beside read and write, by a C program.

work() {
	cat >"$TMP/mm.c" <<-'END'
		#define _GNU_SOURCE
		#include <err.h>
		#include <fcntl.h>
		#include <stdio.h>
		#include <stdlib.h>
		#include <string.h>
		#include <sys/mman.h>
		#include <sys/stat.h>
		#include <unistd.h>
		static void need(int ok, const char *what) { if (!ok) err(1, "%s", what); }
		int main(int argc, char **argv) {
			size_t size = 1 << 20, i;
			int fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL, 0644);
			need(fd >= 0, "open");
			need(ftruncate(fd, size) == 0, "ftruncate");
			unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
			need(p != MAP_FAILED, "mmap");
			for (i = 0; i < size; i++) p[i] = i * 2654435761u >> 24;
			unsigned char b[4096];
			need(pread(fd, b, sizeof b, 8192) == sizeof b, "pread");
			if (memcmp(b, p + 8192, sizeof b)) errx(1, "read does not see what the map holds");
			memset(b, 'w', sizeof b);
			need(pwrite(fd, b, sizeof b, 4096) == sizeof b, "pwrite");
			if (memcmp(b, p + 4096, sizeof b)) errx(1, "the map does not see what was written");
			need(msync(p, size, MS_SYNC) == 0, "msync");
			need(fsync(fd) == 0, "fsync");
			memset(p, 'z', 100); /* after the sync, before close */
			need(munmap(p, size) == 0, "munmap");
			need(close(fd) == 0, "close");
			fd = open(argv[1], O_RDONLY);
			need(fd >= 0, "open again");
			p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
			need(p != MAP_FAILED, "mmap private");
			p[0] = 'q';
			need(pread(fd, b, 1, 0) == 1 && b[0] == 'z', "private map leaked");
			struct stat st;
			need(fstat(fd, &st) == 0 && (size_t)st.st_size == size, "size");
			FILE *want = fopen(argv[2], "w");
			need(want != NULL, "fopen");
			p[0] = 'z';
			need(fwrite(p, 1, size, want) == size && fclose(want) == 0, "fwrite");
			return 0;
		}
	END
	gcc -O1 -o mm "$TMP/mm.c"
	./mm mapped "$TMP/mapped"
}

verify() {
	same "$TMP/mapped" mapped
	equal "$(head -c 3 mapped)" zzz
	equal "$(dd if=mapped bs=1 skip=4096 count=3 status=none)" www
}
