"""Puts the files of a directory into a collection, one after the other.

put.py HOST PORT USER PASSWORD DIRECTORY COLLECTION
"""
import os
import sys

from irods.session import iRODSSession

host, port, user, password, directory, collection = sys.argv[1:]
zone = collection.split('/')[1]
with iRODSSession(host=host, port=int(port), user=user, password=password, zone=zone) as session:
    for name in sorted(os.listdir(directory)):
        session.data_objects.put(os.path.join(directory, name), collection + '/' + name)
