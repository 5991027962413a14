"""Prints the objects below a collection as JSON, by way of python3-irodsclient.

    objects.py PORT ZONE USER [CERTIFICATE-AUTHORITY]

The password is in the variable ZONE_PASSWORD. Each object is read and its bytes are
hashed here; size, checksum and replicas are what the catalog says.
"""
import faulthandler
import hashlib
import json
import os
import ssl
import sys

from irods.session import iRODSSession

# The library reads on for ever when a server hangs up.
faulthandler.dump_traceback_later(60, exit=True)

port, zone, user = int(sys.argv[1]), sys.argv[2], sys.argv[3]
options = {}
if len(sys.argv) > 4:
    options = dict(
        client_server_negotiation='request_server_negotiation', client_server_policy='CS_NEG_REQUIRE',
        encryption_algorithm='AES-256-CBC', encryption_key_size=32, encryption_num_hash_rounds=16,
        encryption_salt_size=8, ssl_context=ssl.create_default_context(cafile=sys.argv[4]))
home = '/%s/home/%s' % (zone, user)
found = []
with iRODSSession(host='127.0.0.1', port=port, user=user, zone=zone, password=os.environ['ZONE_PASSWORD'], **options) as s:
    for _, _, objects in s.collections.get(home).walk():
        for o in objects:
            with o.open('r') as f:
                found.append(dict(
                    path=o.path[len(home) + 1:], size=o.size, sha256=hashlib.sha256(f.read()).hexdigest(),
                    checksum=o.checksum, replicas=[[r.resource_name, r.status] for r in o.replicas]))
json.dump(found, sys.stdout)
