// Package irods is the adapter for iRODS zones: a branch is a collection.
package irods
