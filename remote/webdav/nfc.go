package webdav

func isNFC(string) bool { return true }
