package efss

import (
	"net/http"
	"time"
)

// row returns the table's row of a dialect.
func row(d Dialect) *behaviour {
	switch d {
	case OpenCloud:
		return rowOpenCloud()
	case Reva:
		return rowReva()
	case ModDAV:
		return rowModDAV()
	case Rclone:
		return rowRclone()
	case XRootD:
		return rowXRootD()
	case Generic:
		return rowGeneric()
	}
	return rowNextcloud()
}

const davNextcloud = "1, 3, extended-mkcol, access-control, calendarserver-principal-property-search, " +
	"nc-paginate, nextcloud-checksum-update, nc-calendar-search, nc-enable-birthday-calendar, 2"

// rowNextcloud: Nextcloud 34.0.1 behind Apache and PHP-FPM, SQLite, local disk.
func rowNextcloud() *behaviour {
	return &behaviour{
		dialect: Nextcloud,
		root:    "/remote.php/dav/files/%s", aliases: []string{"/remote.php/webdav"},
		services: true, status: statusNextcloud,
		every:   [][2]string{{"Server", "Apache/2.4.71 (Debian) OpenSSL/3.0.22"}},
		dav:     [][2]string{{"Vary", "Brief,Prefer"}, {"DAV", davNextcloud}},
		options: [][2]string{{"Allow", allowNextcloud}, {"DAV", davNextcloud}, {"MS-Author-Via", "DAV"}, {"Accept-Ranges", "bytes"}, {"Content-Type", "text/html; charset=UTF-8"}}, optionsRC: http.StatusOK,
		challenges: []string{`Basic realm="Nextcloud", charset="UTF-8"`},
		errors:     errorsSabre, list: listSabre(),
		putHeaders: headersNextcloud, getHeaders: headersNextcloud, moveHeader: headersNextcloud,
		tick: time.Second, etag: etagNextcloud, above: aboveAll, copyKeeps: true, dirSize: -1,
		ids: idNextcloud, permFile: "RGDNVW", permDir: "RGDNVCK", permReadFile: "RG", permReadDir: "RG",
		quota: quotaNextcloud, sums: sumsAsSent, setTimes: true, infinity: depthAll, noDepth: "1",
		getConds: true, putIfMatch: http.StatusPreconditionFailed, putMatchGone: true, putIfNone: true,
		otherConds: true, ifHeader: ifHonoured, fileTags: true, removedRC: http.StatusNoContent,
		emptyRC: http.StatusOK, dirGetRC: http.StatusOK, dirGetTyp: "text/html; charset=UTF-8",
		put: putOverlay, putNew: http.StatusCreated, putOver: http.StatusNoContent, noLength: true,
		mtime: mtimeNextcloud, putNoDir: http.StatusNotFound, putOnDir: http.StatusConflict, busy: true,
		mkcolAgain: http.StatusMethodNotAllowed, absentOver: true, moveNoDir: http.StatusConflict,
		locks: locksFlat, names: namesNextcloud, nfc: true,
		gzip: true, moveNoSrc: http.StatusNotFound, lockNew: http.StatusCreated, treeLocked: http.StatusLocked, unknown: http.StatusNotImplemented, readOnlyRC: http.StatusForbidden, moveGap: true,
	}
}

// rowOpenCloud: OpenCloud 0.1.0, decomposedfs, Basic authentication switched on.
func rowOpenCloud() *behaviour {
	vary := [2]string{"Vary", "Origin"}
	return &behaviour{
		dialect: OpenCloud,
		root:    "/remote.php/dav/files/%s", aliases: []string{"/dav/files/%s", "/remote.php/webdav", "/webdav"},
		tus: true, status: statusOpenCloud,
		every: [][2]string{vary},
		dav: append(tusHeaders("creation, creation-with-upload, checksum, expiration"),
			[2]string{"Vary", "Origin, Prefer"}, [2]string{"Dav", "1, 3, extended-mkcol"},
			[2]string{"Access-Control-Expose-Headers", "Tus-Resumable, Tus-Version, Tus-Extension"}),
		options: append(tusHeaders("creation,creation-with-upload,checksum,expiration"),
			[2]string{"Allow", "OPTIONS, LOCK, GET, HEAD, POST, DELETE, PROPPATCH, COPY, MOVE, UNLOCK, PROPFIND, MKCOL, REPORT, SEARCH, PUT"},
			[2]string{"Content-Type", "application/xml"}, [2]string{"Dav", "1, 2"}, [2]string{"Ms-Author-Via", "DAV"},
			[2]string{"Tus-Checksum-Algorithm", "md5,sha1,crc32"}, [2]string{"Access-Control-Allow-Headers", "Tus-Resumable"},
			[2]string{"Access-Control-Expose-Headers", "Tus-Resumable,Tus-Version,Tus-Extension"}), optionsRC: http.StatusNoContent,
		challenges: []string{`Bearer realm="%s", charset="UTF-8"`, `Basic realm="%s", charset="UTF-8"`},
		errors:     errorsOcis, list: listOcis(),
		putHeaders: headersOcis, getHeaders: headersOcis, moveHeader: headersOcis,
		tick: 1, etag: etagNode, above: aboveAll, touchNow: true, dirSize: -1, removedRC: http.StatusNoContent,
		ids: idOcis, permFile: "RDNVWZP", permDir: "RDNVCKZP", permReadFile: "R", permReadDir: "R",
		quota: quotaUnknown, sums: sumsComputed, infinity: depthBad, noDepth: "1",
		putIfMatch: http.StatusConflict, putMatchGone: true, ifHeader: ifIgnored,
		multi: true, ifRange: ifRangeIgnored, emptyRC: http.StatusRequestedRangeNotSatisfiable,
		dirGetRC: http.StatusOK,
		put:      putSpool, putNew: http.StatusCreated, putOver: http.StatusNoContent,
		contRange: rangePutUnknown, mtime: mtimeOcis, putNoDir: http.StatusConflict, putOnDir: http.StatusConflict,
		mkcolAgain: http.StatusMethodNotAllowed, absentOver: true, moveNoDir: http.StatusConflict,
		copyDepth: true, locks: locksOcis, names: namesOcis,
		moveNoSrc: http.StatusNotFound, treeLocked: http.StatusLocked, unknown: http.StatusMethodNotAllowed, readOnlyRC: http.StatusForbidden, moveGap: true,
	}
}

// rowReva: Reva v3 of August 2026, localhome driver (not what CERNBox runs).
func rowReva() *behaviour {
	return &behaviour{
		dialect: Reva,
		root:    "/remote.php/dav/files/%s", aliases: []string{"/remote.php/webdav"},
		tus:   true,
		every: [][2]string{{"Vary", "Origin"}, {"Access-Control-Allow-Origin", "*"}},
		dav: append(tusHeaders("creation,creation-with-upload,checksum,expiration"),
			[2]string{"Dav", "1, 3, extended-mkcol"},
			[2]string{"Access-Control-Expose-Headers", "Tus-Resumable, Tus-Version, Tus-Extension"}),
		optionsRC:  http.StatusInternalServerError,
		challenges: []string{`Basic realm="%s"`},
		errors:     errorsReva, list: listReva(),
		putHeaders: headersOcis, getHeaders: headersOcis, moveHeader: headersOcis,
		tick: 1, etag: etagNode, above: aboveReva, touchNow: true, dirSize: 4096,
		ids: idPath, permFile: "RDNVWO", permDir: "RDNVCK", permReadFile: "R", permReadDir: "R",
		quota: quotaUnknown, infinity: depthAll, noDepth: "1",
		putIfMatch: http.StatusPreconditionFailed, ifHeader: ifIgnored,
		ranges: rangesRefuse, emptyRC: http.StatusOK, dirGetRC: http.StatusNotImplemented,
		put: putSalvage, putNew: http.StatusCreated, putOver: http.StatusNoContent,
		contRange: rangePutUnknown, mtime: mtimeSaidOnly,
		putNoDir: http.StatusInternalServerError, putOnDir: http.StatusConflict,
		mkcolAgain: http.StatusMethodNotAllowed, absentOver: true, moveNoDir: http.StatusConflict,
		copyRC: http.StatusInternalServerError, locks: locksDummy, names: namesReva,
		moveNoSrc: http.StatusNotFound, unknown: http.StatusMethodNotAllowed, readOnlyRC: http.StatusForbidden, moveGap: true,
	}
}

// rowModDAV: Apache 2.4.71, mod_dav and mod_dav_fs, Depth infinity as by default.
func rowModDAV() *behaviour {
	return &behaviour{
		dialect: ModDAV, root: "/",
		every: [][2]string{{"Server", "Apache/2.4.71 (Debian)"}},
		options: [][2]string{{"DAV", "1,2"}, {"DAV", "<http://apache.org/dav/propset/fs/1>"}, {"MS-Author-Via", "DAV"},
			{"Allow", "OPTIONS,GET,HEAD,POST,DELETE,TRACE,PROPFIND,PROPPATCH,COPY,MOVE,LOCK,UNLOCK"}, {"Content-Type", "httpd/unix-directory"}}, optionsRC: http.StatusOK,
		challenges: []string{`Basic realm="dav"`},
		errors:     errorsApache, list: listApache(),
		getHeaders: headersApache,
		tick:       4 * time.Millisecond, etag: etagApache, above: aboveParentAny, touchNow: true, dirSize: 4096,
		infinity: depthRefuse, noDepth: "infinity",
		getConds: true, putIfMatch: http.StatusPreconditionFailed, putMatchGone: true, putIfNone: true,
		otherConds: true, ifHeader: ifHonoured,
		multi: true, ifRange: ifRangeStrong, emptyRC: http.StatusOK, dirGetRC: http.StatusNotFound,
		put: putSpool, putNew: http.StatusCreated, putOver: http.StatusNoContent, noLength: true,
		contRange: rangePutPartial, putNoDir: http.StatusConflict, putOnDir: http.StatusConflict,
		mkcolAgain: http.StatusMethodNotAllowed, absentOver: true, pathDest: http.StatusBadRequest,
		moveNoDir: http.StatusInternalServerError, copyDepth: true, locks: locksReal, names: namesApache,
		moveNoSrc: http.StatusNotFound, belowFile: http.StatusBadRequest, anyHost: true, lockNew: http.StatusOK, lockNull: true, treeLocked: http.StatusFailedDependency, unknown: http.StatusNotImplemented, readOnlyRC: http.StatusConflict, moveGap: true,
	}
}

// rowRclone: rclone 1.60.1 serve webdav --etag-hash auto over a local directory.
func rowRclone() *behaviour {
	return &behaviour{
		dialect: Rclone, root: "/",
		options: [][2]string{{"Allow", "OPTIONS, LOCK, DELETE, PROPPATCH, COPY, MOVE, UNLOCK, PROPFIND"},
			{"Dav", "1, 2"}, {"Ms-Author-Via", "DAV"}}, optionsRC: http.StatusOK,
		challenges: []string{`Basic realm="rclone"`},
		errors:     errorsText, list: listGo(),
		putHeaders: headersETag, getHeaders: headersETag,
		tick: 1, etag: etagContent, touchNow: true, dirSize: 0,
		deadProps: propsRefused, infinity: depthAll, noDepth: "infinity",
		getConds: true, ifHeader: ifTokens,
		multi: true, emptyRC: http.StatusRequestedRangeNotSatisfiable, dirGetRC: http.StatusMethodNotAllowed,
		put: putInPlace, putNew: http.StatusCreated, putOver: http.StatusCreated, noLength: true,
		contRange: rangePutIgnored, putNoDir: http.StatusNotFound, putOnDir: http.StatusNotFound,
		mkcolAgain: http.StatusCreated, moveNoDir: http.StatusForbidden, copyDepth: true,
		locks: locksSingle, names: namesRclone,
		moveNoSrc: http.StatusForbidden, dstFirst: true, lockNew: http.StatusCreated, unknown: http.StatusBadRequest, readOnlyRC: http.StatusForbidden, moveGap: true,
	}
}

// rowXRootD: XRootD 5.5.3 with XrdHttp.
func rowXRootD() *behaviour {
	return &behaviour{
		dialect: XRootD, root: "/",
		every: [][2]string{{"Server", "XrootD/v5.5.3"}},
		options: [][2]string{{"DAV", "1"}, {"DAV", "<http://apache.org/dav/propset/fs/1>"},
			{"Allow", "HEAD,GET,PUT,PROPFIND,DELETE,OPTIONS"}}, optionsRC: http.StatusOK,
		challenges: []string{`Basic realm="xrootd"`},
		errors:     errorsText, list: listXRootD(),
		tick: time.Second, above: aboveParent, touchNow: true, dirSize: 4096,
		sums: sumsDigest, deadProps: propsBad, fixedProps: true, infinity: depthSelf, noDepth: "0",
		ranges: rangesXRootD, multi: true, ifRange: ifRangeIgnored, emptyRC: http.StatusPartialContent,
		dirGetRC: http.StatusOK, dirGetTyp: "text/html",
		put: putInPlace, putNew: http.StatusOK, putOver: http.StatusOK,
		contRange: rangePutIgnored, putOnDir: http.StatusConflict,
		mkcolAgain: http.StatusCreated, mkcolDeep: true, absentOver: true, ignoreF: true,
		pathDest: http.StatusNotImplemented, moveFull: http.StatusInternalServerError,
		copyRC: http.StatusBadRequest, locks: locksBad, names: namesXRootD,
		moveNoSrc: http.StatusNotFound, unknown: http.StatusNotImplemented,
	}
}

// rowGeneric: what RFC 4918 and RFC 9110 say, by a server that writes in place.
func rowGeneric() *behaviour {
	return &behaviour{
		dialect: Generic, root: "/",
		options: [][2]string{{"Allow", allowGeneric}, {"DAV", "1, 2"}}, optionsRC: http.StatusOK,
		challenges: []string{`Basic realm="webdav", charset="UTF-8"`},
		errors:     errorsText, list: listGo(),
		putHeaders: headersETag, getHeaders: headersETag,
		tick: 1, etag: etagCounter, above: aboveParent, touchNow: true, dirSize: 0,
		infinity: depthAll, noDepth: "infinity",
		getConds: true, putIfMatch: http.StatusPreconditionFailed, putMatchGone: true, putIfNone: true,
		otherConds: true, ifHeader: ifHonoured,
		multi: true, emptyRC: http.StatusRequestedRangeNotSatisfiable, dirGetRC: http.StatusMethodNotAllowed,
		put: putInPlace, putNew: http.StatusCreated, putOver: http.StatusNoContent, noLength: true,
		putNoDir: http.StatusConflict, putOnDir: http.StatusMethodNotAllowed,
		mkcolAgain: http.StatusMethodNotAllowed, absentOver: true, moveNoDir: http.StatusConflict,
		copyDepth: true, locks: locksReal,
		gzip: true, moveNoSrc: http.StatusNotFound, lockNew: http.StatusCreated, treeLocked: http.StatusLocked, unknown: http.StatusMethodNotAllowed, readOnlyRC: http.StatusForbidden,
	}
}

const (
	allowNextcloud = "OPTIONS, GET, HEAD, DELETE, PROPFIND, PUT, PROPPATCH, COPY, MOVE, REPORT, LOCK, UNLOCK"
	allowGeneric   = "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, PROPPATCH, MKCOL, COPY, MOVE, LOCK, UNLOCK"
)

func tusHeaders(extension string) [][2]string {
	return [][2]string{{"Tus-Extension", extension}, {"Tus-Resumable", "1.0.0"}, {"Tus-Version", "1.0.0"}}
}
