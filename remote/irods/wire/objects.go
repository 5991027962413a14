package wire

// DataObjInp names a data object and what to do with it (DataObjInp_PI). It serves
// open, create, put, get, stat, unlink, checksum, truncate and others.
type DataObjInp struct {
	Path       string
	CreateMode int // permission bits of a new object; kept as text by the catalog
	OpenFlags  int // O_RDONLY 0, O_WRONLY 1, O_RDWR 2, O_CREAT 64, O_EXCL 128, O_TRUNC 512
	Offset     int64
	DataSize   int64 // of a put or truncate; -1 unknown
	NumThreads int   // -1: no parallel transfer (NoThreading)
	OprType    int   // Opr...
	Cond       KeyValPair
}

func (*DataObjInp) pi() string { return "DataObjInp_PI" }

func (m *DataObjInp) fields(c *codec) {
	c.str("objPath", &m.Path)
	c.int("createMode", &m.CreateMode)
	c.int("openFlags", &m.OpenFlags)
	c.long("offset", &m.Offset)
	c.long("dataSize", &m.DataSize)
	c.int("numThreads", &m.NumThreads)
	c.int("oprType", &m.OprType)
	c.sub(&m.Cond)
}

// OpenedDataObjInp names an open data object (OpenedDataObjInp_PI): read, write,
// seek, close.
type OpenedDataObjInp struct {
	Desc         int // what open or create returned
	Len          int // bytes to read or written
	Whence       int // of a seek: 0 start, 1 current, 2 end
	OprType      int
	Offset       int64
	BytesWritten int64
	Cond         KeyValPair
}

func (*OpenedDataObjInp) pi() string { return "OpenedDataObjInp_PI" }

func (m *OpenedDataObjInp) fields(c *codec) {
	c.int("l1descInx", &m.Desc)
	c.int("len", &m.Len)
	c.int("whence", &m.Whence)
	c.int("oprType", &m.OprType)
	c.long("offset", &m.Offset)
	c.long("bytesWritten", &m.BytesWritten)
	c.sub(&m.Cond)
}

// FileLseekOut is the new position after a seek (fileLseekOut_PI). On a descriptor
// that is open for reading only, the server does not go past the size in the catalog.
type FileLseekOut struct{ Offset int64 }

func (*FileLseekOut) pi() string { return "fileLseekOut_PI" }

func (m *FileLseekOut) fields(c *codec) { c.long("offset", &m.Offset) }

// RodsObjStat describes a data object or collection (RodsObjStat_PI).
type RodsObjStat struct {
	Size       int64
	Type       int // 1 object, 2 collection; also the status of the reply
	Mode       int
	ID         string
	Checksum   string // "sha2:" and base64, or md5 in hex; empty if none
	OwnerName  string
	OwnerZone  string
	CreateTime string // seconds since 1970, with leading zero
	ModifyTime string
}

// The values of RodsObjStat.Type.
const (
	TypeObject     = 1
	TypeCollection = 2
)

func (*RodsObjStat) pi() string { return "RodsObjStat_PI" }

func (m *RodsObjStat) fields(c *codec) {
	c.long("objSize", &m.Size)
	c.int("objType", &m.Type)
	c.int("dataMode", &m.Mode)
	c.str("dataId", &m.ID)
	c.str("chksum", &m.Checksum)
	c.str("ownerName", &m.OwnerName)
	c.str("ownerZone", &m.OwnerZone)
	c.str("createTime", &m.CreateTime)
	c.str("modifyTime", &m.ModifyTime)
}

// CollInp names a collection (CollInpNew_PI): make, remove, modify.
type CollInp struct {
	Name    string
	Flags   int
	OprType int
	Cond    KeyValPair
}

func (*CollInp) pi() string { return "CollInpNew_PI" }

func (m *CollInp) fields(c *codec) {
	c.str("collName", &m.Name)
	c.int("flags", &m.Flags)
	c.int("oprType", &m.OprType)
	c.sub(&m.Cond)
}

// CollOprStat tells how far a call on a collection has come, or what it did
// (CollOprStat_PI).
type CollOprStat struct {
	Files        int
	TotalFiles   int
	BytesWritten int64
	LastPath     string
}

func (*CollOprStat) pi() string { return "CollOprStat_PI" }

func (m *CollOprStat) fields(c *codec) {
	c.int("filesCnt", &m.Files)
	c.int("totalFileCnt", &m.TotalFiles)
	c.long("bytesWritten", &m.BytesWritten)
	c.str("lastObjPath", &m.LastPath)
}

// DataObjCopyInp has two objects: rename, copy (DataObjCopyInp_PI). A rename with
// OprType 0 and KwForce in both replaces an existing object and respects locks; with
// OprRenameObject or OprRenameColl it does neither (measured on 5.0.2).
type DataObjCopyInp struct{ Src, Dst DataObjInp }

func (*DataObjCopyInp) pi() string { return "DataObjCopyInp_PI" }

func (m *DataObjCopyInp) fields(c *codec) {
	c.sub(&m.Src)
	c.sub(&m.Dst)
}

// PortalOprOut answers put and get (PortalOprOut_PI). Without parallel transfer all
// is zero and the data comes as byte stream.
type PortalOprOut struct {
	Status     int
	Desc       int
	NumThreads int
	Checksum   string
	Ports      PortList
}

func (*PortalOprOut) pi() string { return "PortalOprOut_PI" }

func (m *PortalOprOut) fields(c *codec) {
	c.int("status", &m.Status)
	c.int("l1descInx", &m.Desc)
	c.int("numThreads", &m.NumThreads)
	c.str("chksum", &m.Checksum)
	c.sub(&m.Ports)
}

// PortList is where a parallel transfer would take place (PortList_PI).
type PortList struct {
	Port, Cookie, Sock, WindowSize int
	Host                           string
}

func (*PortList) pi() string { return "PortList_PI" }

func (m *PortList) fields(c *codec) {
	c.int("portNum", &m.Port)
	c.int("cookie", &m.Cookie)
	c.int("sock", &m.Sock)
	c.int("windowSize", &m.WindowSize)
	c.str("hostAddr", &m.Host)
}

// StructFileExtAndRegInp names an archive and a collection (StructFileExtAndRegInp_PI):
// extract and register, or bundle.
type StructFileExtAndRegInp struct {
	Path       string // of the archive
	Collection string
	OprType    int
	Flags      int
	Cond       KeyValPair
}

func (*StructFileExtAndRegInp) pi() string { return "StructFileExtAndRegInp_PI" }

func (m *StructFileExtAndRegInp) fields(c *codec) {
	c.str("objPath", &m.Path)
	c.str("collection", &m.Collection)
	c.int("oprType", &m.OprType)
	c.int("flags", &m.Flags)
	c.sub(&m.Cond)
}

// BulkOprInp puts many small objects at once (BulkOprInp_PI). Attrs holds their names,
// modes and offsets in the byte stream (ColOffset).
type BulkOprInp struct {
	Path  string // the collection
	Attrs GenQueryOut
	Cond  KeyValPair
}

func (*BulkOprInp) pi() string { return "BulkOprInp_PI" }

func (m *BulkOprInp) fields(c *codec) {
	c.str("objPath", &m.Path)
	c.sub(&m.Attrs)
	c.sub(&m.Cond)
}
