"""Copies a collection to a directory through python3-irodsclient: export.py PORT ZONE USER COLLECTION DIR.

The password is in the variable ZONE_PASSWORD.
"""
import faulthandler
import os
import sys

from irods.session import iRODSSession

# The library reads on for ever when a server hangs up.
faulthandler.dump_traceback_later(300, exit=True)

port, zone, user, collection, target = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5]


def export(s, coll, directory):
    os.makedirs(directory, exist_ok=True)
    for o in coll.data_objects:
        assert all(r.status == '1' for r in o.replicas), (o.path, [r.status for r in o.replicas])
        with s.data_objects.open(o.path, 'r') as f, open(os.path.join(directory, o.name), 'wb') as out:
            while True:
                piece = f.read(4 << 20)
                if not piece:
                    break
                out.write(piece)
    for sub in coll.subcollections:
        export(s, sub, os.path.join(directory, sub.name))


with iRODSSession(host='127.0.0.1', port=port, user=user, password=os.environ['ZONE_PASSWORD'], zone=zone) as s:
    export(s, s.collections.get(collection), target)
