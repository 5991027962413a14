# Heat on a plate, for machines without a C compiler: the same input, the same
# computation and the same files as heat.c.
#
#   awk -v dir=OUTPUT-DIRECTORY -v summary=SUMMARY -f heat.awk INPUT

function picture(step,   path, i, j) {
	path = sprintf("%s/%s-%04d.pgm", dir, name, step)
	printf "P2\n%d %d\n255\n", cols, rows >path
	for (i = 0; i < rows; i++)
		for (j = 0; j < cols; j++)
			printf "%d%s", int(u[i, j] * 255 / 100), (j + 1 < cols ? " " : "\n") >path
	if (close(path) != 0) exit 1
}

NR == 1 { rows = $1; cols = $2; k = $3; steps = $4; pictures = $5; next }
{ for (f = 1; f <= NF; f++) { u[int(n / cols), n % cols] = $f + 0; n++ } }

END {
	if (n != rows * cols) { print FILENAME ": too few temperatures" >"/dev/stderr"; exit 1 }
	name = FILENAME
	sub(/.*\//, "", name)
	sub(/\..*/, "", name)
	for (step = 0; step <= steps; step++) {
		if (step % int(steps / pictures) == 0) picture(step)
		for (i = 1; i < rows - 1; i++)
			for (j = 1; j < cols - 1; j++)
				v[i, j] = u[i, j] + k * (u[i, j-1] + u[i, j+1] + u[i-1, j] + u[i+1, j] - 4 * u[i, j])
		for (i = 1; i < rows - 1; i++)
			for (j = 1; j < cols - 1; j++)
				u[i, j] = v[i, j]
	}
	max = u[0, 0]
	for (i = 0; i < rows; i++)
		for (j = 0; j < cols; j++) {
			sum += u[i, j]
			if (u[i, j] > max) max = u[i, j]
		}
	printf "%s,%d,%d,%d,%.6f,%.6f\n", name, rows, cols, steps, sum / (rows * cols), max >>summary
	if (close(summary) != 0) exit 1
}
