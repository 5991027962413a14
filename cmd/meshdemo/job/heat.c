/*
 * Heat on a plate: reads a start temperature field, steps the heat equation with
 * fixed borders, and writes pictures and a summary line.
 *
 *   heat INPUT OUTPUT-DIRECTORY SUMMARY
 *
 * INPUT: one line "rows columns diffusivity steps pictures", then the temperatures.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void picture(const char *dir, const char *name, int step, const double *u, int rows, int cols)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s-%04d.pgm", dir, name, step);
	FILE *f = fopen(path, "w");
	if (!f)
		err(1, "%s", path);
	fprintf(f, "P2\n%d %d\n255\n", cols, rows);
	for (int i = 0; i < rows; i++)
		for (int j = 0; j < cols; j++)
			fprintf(f, "%d%c", (int)(u[i * cols + j] * 255 / 100), j + 1 < cols ? ' ' : '\n');
	if (ferror(f) || fclose(f) != 0)
		err(1, "%s", path);
}

int main(int argc, char **argv)
{
	if (argc != 4)
		errx(2, "usage: heat INPUT OUTPUT-DIRECTORY SUMMARY");
	FILE *in = fopen(argv[1], "r");
	if (!in)
		err(1, "%s", argv[1]);
	int rows, cols, steps, pictures;
	double k;
	if (fscanf(in, "%d %d %lf %d %d", &rows, &cols, &k, &steps, &pictures) != 5 || rows < 3 || cols < 3 || pictures < 1)
		errx(1, "%s: bad first line", argv[1]);
	double *u = calloc((size_t)rows * cols, sizeof *u), *v = calloc((size_t)rows * cols, sizeof *v);
	if (!u || !v)
		err(1, "memory");
	for (int i = 0; i < rows * cols; i++)
		if (fscanf(in, "%lf", &u[i]) != 1)
			errx(1, "%s: too few temperatures", argv[1]);
	fclose(in);

	const char *slash = strrchr(argv[1], '/');
	char name[256];
	snprintf(name, sizeof name, "%s", slash ? slash + 1 : argv[1]);
	name[strcspn(name, ".")] = 0;

	for (int step = 0; step <= steps; step++) {
		if (step % (steps / pictures) == 0)
			picture(argv[2], name, step, u, rows, cols);
		memcpy(v, u, sizeof *u * rows * cols);
		for (int i = 1; i < rows - 1; i++)
			for (int j = 1; j < cols - 1; j++) {
				int c = i * cols + j;
				v[c] = u[c] + k * (u[c - 1] + u[c + 1] + u[c - cols] + u[c + cols] - 4 * u[c]);
			}
		double *t = u; u = v; v = t;
	}

	double sum = 0, max = u[0];
	for (int i = 0; i < rows * cols; i++) {
		sum += u[i];
		if (u[i] > max)
			max = u[i];
	}
	FILE *out = fopen(argv[3], "a");
	if (!out)
		err(1, "%s", argv[3]);
	fprintf(out, "%s,%d,%d,%d,%.6f,%.6f\n", name, rows, cols, steps, sum / (rows * cols), max);
	if (ferror(out) || fclose(out) != 0)
		err(1, "%s", argv[3]);
	return 0;
}
