# NetCDF and HDF5: written, copied, repacked and read back by Debian's tools.

work() {
	{
		echo 'netcdf field { dimensions: t = UNLIMITED; x = 40; y = 50; variables: double u(t, x, y); u:units = "K"; float x(x); data:'
		echo " x = $(seq -s, 40);"
		echo " u = $(seq -s, 0 0.5 9999.5);"
		echo '}'
	} >"$TMP/field.cdl"
	ncgen -k classic -o classic.nc "$TMP/field.cdl"
	ncgen -k nc4 -o four.nc "$TMP/field.cdl"
	ncgen -k 64-bit-offset -o "$OTHER/offset.nc" "$TMP/field.cdl"
	nccopy -k nc4 -d 5 -s -c t/1,x/10,y/10 classic.nc packed.nc
	nccopy -k classic packed.nc unpacked.nc
	h5repack -f GZIP=6 -l CHUNK=2x20x25 four.nc repacked.h5 >/dev/null
	h5dump -d /u -b LE -o u.bin four.nc >/dev/null
	printf '%s\n' 'PATH u' 'INPUT-CLASS FP' 'INPUT-SIZE 64' 'INPUT-BYTE-ORDER LE' 'RANK 3' \
		'DIMENSION-SIZES 10 40 50' 'OUTPUT-CLASS FP' 'OUTPUT-SIZE 64' 'OUTPUT-BYTE-ORDER LE' >"$TMP/import.conf"
	h5import u.bin -c "$TMP/import.conf" -o imported.h5
	ncgen -k nc4 -o local.nc "$TMP/field.cdl"
	ncgen -k nc4 -o "$TMP/local.nc" "$TMP/field.cdl"
}

verify() {
	ncdump -n field -p 9,17 classic.nc >"$TMP/want.cdl"
	equal "$(grep -c 9999.5 "$TMP/want.cdl")" 1 "last value"
	for file in four.nc packed.nc unpacked.nc repacked.h5 "$OTHER/offset.nc"; do
		ncdump -n field -p 9,17 "$file" | grep -v '_Storage\|_Chunk' >"$TMP/got.cdl"
		same "$TMP/want.cdl" "$TMP/got.cdl"
	done
	for file in four.nc packed.nc repacked.h5 imported.h5 local.nc; do
		h5dump -d /u -b LE -o "$TMP/u.bin" "$file" >/dev/null
		same "$TMP/u.bin" u.bin
	done
	h5ls -r local.nc >"$TMP/h5ls.got"
	h5ls -r "$TMP/local.nc" >"$TMP/h5ls.want"
	same "$TMP/h5ls.got" "$TMP/h5ls.want"
	h5dump -H repacked.h5 | grep -q 'DATASET "u"' || die "no dataset u"
	equal "$(od -An -tf8 -j 159992 u.bin | tr -d ' ')" 9999.5 "last value, raw"
}
