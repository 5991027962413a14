"""Puts the files of a directory, and of those in it, into a collection, one after the other.

put.py HOST PORT USER PASSWORD DIRECTORY COLLECTION
"""
import os
import sys

from irods.session import iRODSSession

host, port, user, password, directory, collection = sys.argv[1:]
zone = collection.split('/')[1]
with iRODSSession(host=host, port=int(port), user=user, password=password, zone=zone) as session:
    for here, dirs, names in os.walk(directory):
        dirs.sort()
        place = collection + here[len(directory):]
        if place != collection:
            session.collections.create(place)
        for name in sorted(names):
            session.data_objects.put(os.path.join(here, name), place + '/' + name)
