// Package httpd starts real WebDAV servers for tests: Debian's Apache httpd with
// mod_dav, and rclone serve webdav.
//
// Each server listens on a free port of the loopback interface, keeps its files in a
// directory of its own and is one process tree that Close ends by its id. When the
// process that started a server dies, the kernel ends the server too, so that a test
// that is killed leaves nothing behind.
package httpd
