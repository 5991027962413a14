package wire

import "strconv"

// Numbers of API calls, with what they take and give.
const (
	APIDataObjCreate       = 601   // DataObjInp -> descriptor
	APIDataObjOpen         = 602   // DataObjInp -> descriptor
	APIDataObjPut          = 606   // DataObjInp, bytes -> PortalOprOut or nothing
	APIDataObjGet          = 608   // DataObjInp -> PortalOprOut, bytes
	APIDataObjUnlink       = 615   // DataObjInp
	APIDataObjRename       = 627   // DataObjCopyInp
	APIDataObjChksum       = 629   // DataObjInp -> STR
	APIDataObjTrim         = 632   // DataObjInp
	APIObjStat             = 633   // DataObjInp -> RodsObjStat
	APIDataObjTruncate     = 652   // DataObjInp; deprecated, see APIReplicaTruncate
	APIStructFileExtAndReg = 665   // StructFileExtAndRegInp
	APIStructFileBundle    = 666   // StructFileExtAndRegInp
	APIDataObjClose        = 673   // OpenedDataObjInp
	APIDataObjLseek        = 674   // OpenedDataObjInp -> FileLseekOut
	APIDataObjRead         = 675   // OpenedDataObjInp -> length, bytes
	APIDataObjWrite        = 676   // OpenedDataObjInp, bytes -> length
	APIRmColl              = 679   // CollInp -> CollOprStat, with progress
	APIModColl             = 680   // CollInp
	APICollCreate          = 681   // CollInp
	APIBulkDataObjPut      = 689   // BulkOprInp, bytes
	APIDataObjRepl         = 695   // DataObjInp -> TransferStat
	APIDataObjCopy         = 696   // DataObjCopyInp
	APIGetMiscSvrInfo      = 700   // -> MiscSvrInfo; without authentication
	APIGeneralAdmin        = 701   // GeneralAdminInp
	APIGenQuery            = 702   // GenQueryInp -> GenQueryOut
	APIAuthRequest         = 703   // -> AuthRequestOut
	APIAuthResponse        = 704   // AuthResponseInp
	APIModAVUMetadata      = 706   // ModAVUMetadataInp
	APIModAccessControl    = 707   // ModAccessControlInp
	APIUserAdmin           = 714   // UserAdminInp
	APIEndTransaction      = 718   // EndTransactionInp
	APISpecificQuery       = 722   // specificQueryInp -> GenQueryOut
	APITicketAdmin         = 723   // TicketAdminInp
	APIPamAuthRequest      = 725   // PamAuthRequestInp -> PamAuthRequestOut; before 4.3
	APIReplicaTruncate     = 802   // DataObjInp -> STR with JSON
	APISSLStart            = 1100  // starts TLS in the middle; before 4.3, not used here
	APIAuthPlugReq         = 1201  // AuthPlugReqInp -> AuthPlugReqOut; before 4.3
	APIGenQuery2           = 10221 // Genquery2Inp -> STR with JSON
	APIGetFileDescInfo     = 20000 // BinBytesBuf with JSON -> the same; gives the replica token
	APIModDataObjInfo      = 20001 // see APITouch
	APIAtomicMetadata      = 20002 // BinBytesBuf with JSON -> the same
	APIReplicaOpen         = 20003 // DataObjInp -> descriptor, BinBytesBuf
	APIReplicaClose        = 20004 // BinBytesBuf with JSON
	APIAtomicACL           = 20005 // BinBytesBuf with JSON -> the same
	APITouch               = 20007 // BinBytesBuf with JSON
	APIAuthentication      = 110000
)

var apiNames = map[int]string{
	APIDataObjCreate: "create", APIDataObjOpen: "open", APIDataObjPut: "put",
	APIDataObjGet: "get", APIDataObjUnlink: "unlink", APIDataObjRename: "rename",
	APIDataObjChksum: "checksum", APIDataObjTrim: "trim", APIObjStat: "stat",
	APIDataObjTruncate: "truncate", APIStructFileExtAndReg: "extract",
	APIStructFileBundle: "bundle", APIDataObjClose: "close", APIDataObjLseek: "seek",
	APIDataObjRead: "read", APIDataObjWrite: "write", APIRmColl: "remove collection",
	APIModColl: "modify collection", APICollCreate: "create collection",
	APIBulkDataObjPut: "bulk put", APIDataObjRepl: "replicate", APIDataObjCopy: "copy",
	APIGetMiscSvrInfo: "server info", APIGeneralAdmin: "admin", APIGenQuery: "query",
	APIAuthRequest: "authentication", APIAuthResponse: "authentication",
	APIModAVUMetadata: "modify metadata", APIModAccessControl: "modify access",
	APIUserAdmin: "user admin", APIEndTransaction: "end transaction",
	APISpecificQuery: "specific query", APITicketAdmin: "ticket",
	APIPamAuthRequest: "authentication", APIReplicaTruncate: "truncate",
	APISSLStart: "start TLS", APIAuthPlugReq: "authentication", APIGenQuery2: "query",
	APIGetFileDescInfo: "descriptor info", APIModDataObjInfo: "modify object",
	APIAtomicMetadata: "modify metadata", APIReplicaOpen: "open replica",
	APIReplicaClose: "close replica", APIAtomicACL: "modify access", APITouch: "touch",
	APIAuthentication: "authentication",
}

// APIName returns a short name of a call for people.
func APIName(api int) string {
	if name, ok := apiNames[api]; ok {
		return name
	}
	if api == 0 {
		return "connect"
	}
	return "call " + strconv.Itoa(api)
}

// Kinds of operation in DataObjInp.OprType.
const (
	OprPut          = 1
	OprGet          = 2
	OprRenameObject = 11
	OprRenameColl   = 12
)

// NoThreading in DataObjInp.NumThreads keeps the data on the connection.
const NoThreading = -1

// Open flags are those of Linux on every platform.
const (
	OpenReadOnly  = 0
	OpenWriteOnly = 1
	OpenReadWrite = 2
	OpenCreate    = 0o100
	OpenExclusive = 0o200
	OpenTruncate  = 0o1000
	OpenAppend    = 0o2000
)

// Status values with which a server asks for something in the middle of a call.
const (
	statusCollStat      = 99999996 // progress of a collection; Conn answers
	statusCollStatReply = 99999997
	statusMsiRequest    = 99999995 // a rule wants the client to transfer; not supported
)

// Replica states (ColReplStatus).
const (
	ReplicaStale        = 0
	ReplicaGood         = 1
	ReplicaIntermediate = 2
	ReplicaReadLocked   = 3
	ReplicaWriteLocked  = 4
)

// Keywords of KeyValPair.
const (
	KwForce              = "forceFlag"
	KwRecursive          = "recursiveOpr"
	KwDataType           = "dataType"
	KwDataIncluded       = "dataIncluded"
	KwDataSize           = "dataSize"
	KwDataModify         = "dataModify"
	KwDataMode           = "dataMode"
	KwRegChecksum        = "regChksum"
	KwVerifyChecksum     = "verifyChksum"
	KwForceChecksum      = "forceChksum"
	KwChecksum           = "chksum"
	KwChecksumAll        = "ChksumAll"
	KwNoCompute          = "no_compute"
	KwVerifyBySize       = "verifyBySize"
	KwRescName           = "rescName"
	KwDestRescName       = "destRescName"
	KwDefRescName        = "defRescName"
	KwLeafRescName       = "leafRescName"
	KwRescHier           = "resc_hier"
	KwReplNum            = "replNum"
	KwReplStatus         = "replStatus"
	KwReplicaToken       = "replicaToken"
	KwSourceDesc         = "sourceL1Desc"
	KwBulk               = "bulkOpr"
	KwAll                = "all"
	KwCopies             = "copies"
	KwUpdateRepl         = "updateRepl"
	KwAdmin              = "irodsAdmin"
	KwRmTrash            = "irodsRmTrash"
	KwAdminRmTrash       = "irodsAdminRmTrash"
	KwUnreg              = "unreg"
	KwZone               = "zone"
	KwTicket             = "ticket"
	KwNoOpen             = "noOpenFlag"
	KwPurgeCache         = "purgeCache"
	KwFilePath           = "filePath"
	KwSelObjType         = "selObjType"
	KwOpenType           = "openType"
	KwTranslatedPath     = "translatedPath"
	KwCollectionMTime    = "collectionMtime"
	KwCollectionType     = "collectionType"
	KwMetadataIncluded   = "metadataIncluded"
	KwACLIncluded        = "aclIncluded"
	KwSelectedHier       = "selected_hierarchy"
	KwInPDMO             = "in_pdmo"
	KwAccessPermission   = "accessPermission"
	KwKeyValuePassthru   = "key_value_passthrough"
	KwDisableStrictACL   = "disable_strict_acls"
	KwRegisterIntermedia = "registerAsIntermediate"
)
