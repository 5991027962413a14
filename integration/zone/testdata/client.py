"""Uses a zone through python3-irodsclient: client.py PORT ZONE USER PASSWORD [CA].

Ends with status 0 and the word "done" if everything is as it should be.
"""
import io
import ssl
import faulthandler
import sys

from irods.access import iRODSAccess
from irods.column import Criterion
from irods.exception import (CAT_INVALID_AUTHENTICATION, CollectionDoesNotExist,
                             DataObjectDoesNotExist, iRODSException)
from irods.models import Collection, DataObject, DataObjectMeta, Resource, User
from irods.session import iRODSSession
from irods.ticket import Ticket

# The library reads on for ever when a server hangs up.
faulthandler.dump_traceback_later(60, exit=True)

port, zone, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
options = {}
if len(sys.argv) > 5:
    options = dict(
        client_server_negotiation='request_server_negotiation', client_server_policy='CS_NEG_REQUIRE',
        encryption_algorithm='AES-256-CBC', encryption_key_size=32, encryption_num_hash_rounds=16,
        encryption_salt_size=8, ssl_context=ssl.create_default_context(cafile=sys.argv[5]))


def session(name=user, secret=password):
    return iRODSSession(host='127.0.0.1', port=port, user=name, password=secret, zone=zone, **options)


def fails(kind, f):
    try:
        f()
    except kind:
        return
    raise AssertionError('no %s' % kind)


def objects(s, home):
    for name in ['a b', "it's", 'q"uote', 'amp&lt<gt>', 'back\\slash', 'per%cent', 'ä😀']:
        path = home + '/' + name
        s.data_objects.create(path)
        with s.data_objects.open(path, 'r+') as f:
            f.write(name.encode() * 1000)
        with s.data_objects.open(path, 'r') as f:
            f.seek(len(name.encode()), io.SEEK_SET)
            assert f.read() == name.encode() * 999
        obj = s.data_objects.get(path)
        assert obj.name == name and obj.size == 1000 * len(name.encode()), obj.name
        assert obj.replicas[0].status == '1' and obj.owner_name == user
    names = {o.name for o in s.collections.get(home).data_objects}
    assert len(names) == 7 and "it's" in names, names
    big = bytes(range(256)) * 20000
    with s.data_objects.open(home + '/big', 'w') as f:
        f.write(big)
    with s.data_objects.open(home + '/big', 'r') as f:
        assert f.read() == big
    s.data_objects.truncate(home + '/big', 100)
    assert s.data_objects.get(home + '/big').size == 100
    s.data_objects.copy(home + '/big', home + '/copy')
    s.data_objects.move(home + '/copy', home + '/moved')
    fails(DataObjectDoesNotExist, lambda: s.data_objects.get(home + '/copy'))
    s.data_objects.unlink(home + '/moved', force=True)
    fails((iRODSException, KeyError), lambda: s.data_objects.open(home + '/moved', 'r'))


def collections(s, home):
    top = s.collections.create(home + '/top')
    for i in range(3):
        s.collections.create('%s/top/sub%d/deep' % (home, i))
    for i in range(25):
        s.data_objects.create('%s/top/sub1/f%d' % (home, i))
    assert len(top.subcollections) == 3
    assert sum(len(objs) for _, _, objs in top.walk()) == 25
    s.collections.move(home + '/top', home + '/bottom')
    fails(CollectionDoesNotExist, lambda: s.collections.get(home + '/top'))
    assert s.collections.exists(home + '/bottom/sub2/deep')
    s.collections.remove(home + '/bottom', recurse=True, force=True)
    assert not s.collections.exists(home + '/bottom')


def metadata(s, home):
    obj = s.data_objects.create(home + '/meta')
    obj.metadata.add('key', 'value', 'unit')
    obj.metadata.add('key', 'other')
    assert sorted(m.value for m in obj.metadata.get_all('key')) == ['other', 'value']
    obj.metadata.remove('key', 'other')
    assert obj.metadata.get_one('key').units == 'unit'
    coll = s.collections.get(home)
    coll.metadata.add('where', 'here')
    assert coll.metadata.get_one('where').value == 'here'
    found = s.query(DataObject.name).filter(Criterion('=', DataObjectMeta.name, 'key')).all()
    assert [r[DataObject.name] for r in found] == ['meta'], found


def permissions(s, home):
    path = home + '/shared'
    s.data_objects.create(path)
    with session('alice', 'apass') as other:
        fails((iRODSException, KeyError), lambda: other.data_objects.open(path, 'r').read())
        s.permissions.set(iRODSAccess('read', home, 'alice', zone))
        s.permissions.set(iRODSAccess('read', path, 'alice', zone))
        assert other.data_objects.open(path, 'r').read() == b''
    access = {a.user_name: a.access_name for a in s.permissions.get(s.data_objects.get(path))}
    assert access == {user: 'own', 'alice': 'read_object'}, access
    names = {a.user_name for a in s.permissions.get(s.collections.get(home))}
    assert names == {user, 'alice'}, names


def queries(s, home):
    s.collections.create(home + '/many')
    for i in range(30):
        s.data_objects.create('%s/many/f%02d' % (home, i))
    q = s.query(DataObject.name, DataObject.size).filter(Collection.name == home + '/many')
    rows = [r[DataObject.name] for r in q.limit(7).get_batches() for r in r]
    assert len(rows) == 30 and len(set(rows)) == 30, rows
    first = q.order_by(DataObject.name, order='desc').first()
    assert first[DataObject.name] == 'f29', first
    n = s.query().filter(Collection.name == home + '/many').count(DataObject.id).execute()
    assert n[0][DataObject.id] == 30, n
    like = s.query(DataObject.name).filter(Criterion('like', DataObject.name, 'f1%')).filter(Collection.name == home + '/many').all()
    assert len(like) == 10, like
    assert {r[Resource.name] for r in s.query(Resource.name)} == {'demoResc', 'resc2'}
    assert s.users.get(user).type == 'rodsadmin'
    assert user in {r[User.name] for r in s.query(User.name)}


def replicas(s, home):
    path = home + '/two'
    with s.data_objects.open(path, 'w') as f:
        f.write(b'twice')
    s.data_objects.replicate(path, resource='resc2')
    obj = s.data_objects.get(path)
    assert sorted(r.resource_name for r in obj.replicas) == ['demoResc', 'resc2']
    assert {r.status for r in obj.replicas} == {'1'}
    assert s.resources.get('resc2').type == 'unixfilesystem'


def tickets(s, home):
    s.data_objects.create(home + '/ticketed')
    ticket = Ticket(s, 'letmein')
    ticket.issue('read', home + '/ticketed')
    with session('alice', 'apass') as other:
        Ticket(other, 'letmein').supply()
        assert other.data_objects.open(home + '/ticketed', 'r').read() == b''


def main():
    fails(CAT_INVALID_AUTHENTICATION, lambda: session(secret='wrong').collections.get('/' + zone))
    with session() as s:
        assert s.server_version == (5, 0, 2)
        for i, part in enumerate([objects, collections, metadata, permissions, queries, replicas, tickets]):
            home = '/%s/home/%s/part%d' % (zone, user, i)
            s.collections.create(home)
            part(s, home)
    print('done')


main()
