package wire

// Options of a selected column and of a whole query (rodsGenQuery.h).
const (
	SelectMin   = 2
	SelectMax   = 3
	SelectSum   = 4
	SelectAvg   = 5
	SelectCount = 6
	OrderBy     = 0x400
	OrderByDesc = 0x800

	ReturnTotal    = 0x20
	NoDistinct     = 0x40
	QuotaQuery     = 0x80
	AutoClose      = 0x100
	UpperCaseWhere = 0x200
)

// Numbers of catalog columns.
const (
	ColZoneID         = 101
	ColZoneName       = 102
	ColZoneType       = 103
	ColZoneConnection = 104
	ColZoneComment    = 105
	ColZoneCreateTime = 106
	ColZoneModifyTime = 107

	ColUserID         = 201
	ColUserName       = 202
	ColUserType       = 203
	ColUserZone       = 204
	ColUserInfo       = 206
	ColUserComment    = 207
	ColUserCreateTime = 208
	ColUserModifyTime = 209

	ColRescID            = 301
	ColRescName          = 302
	ColRescZone          = 303
	ColRescType          = 304
	ColRescClass         = 305
	ColRescLocation      = 306
	ColRescVaultPath     = 307
	ColRescFreeSpace     = 308
	ColRescInfo          = 309
	ColRescComment       = 310
	ColRescCreateTime    = 311
	ColRescModifyTime    = 312
	ColRescStatus        = 313
	ColRescFreeSpaceTime = 314
	ColRescChildren      = 315
	ColRescContext       = 316
	ColRescParent        = 317
	ColRescParentContext = 318

	ColDataID         = 401
	ColDataCollID     = 402
	ColDataName       = 403
	ColReplNum        = 404
	ColDataVersion    = 405
	ColDataType       = 406
	ColDataSize       = 407
	ColDataRescGroup  = 408
	ColDataRescName   = 409
	ColDataPath       = 410 // in the vault
	ColDataOwnerName  = 411
	ColDataOwnerZone  = 412
	ColReplStatus     = 413
	ColDataStatus     = 414
	ColDataChecksum   = 415
	ColDataExpiry     = 416
	ColDataMapID      = 417
	ColDataComments   = 418
	ColDataCreateTime = 419
	ColDataModifyTime = 420
	ColDataMode       = 421
	ColDataRescHier   = 422
	ColDataRescID     = 423
	ColDataAccessTime = 424

	ColCollID          = 500
	ColCollName        = 501
	ColCollParentName  = 502
	ColCollOwnerName   = 503
	ColCollOwnerZone   = 504
	ColCollMapID       = 505
	ColCollInheritance = 506
	ColCollComments    = 507
	ColCollCreateTime  = 508
	ColCollModifyTime  = 509
	ColCollType        = 510
	ColCollInfo1       = 511
	ColCollInfo2       = 512

	ColMetaDataName       = 600
	ColMetaDataValue      = 601
	ColMetaDataUnits      = 602
	ColMetaDataID         = 603
	ColMetaDataCreateTime = 604
	ColMetaDataModifyTime = 605
	ColMetaCollName       = 610
	ColMetaCollValue      = 611
	ColMetaCollUnits      = 612
	ColMetaCollID         = 613
	ColMetaCollCreateTime = 614
	ColMetaCollModifyTime = 615
	ColMetaRescName       = 630
	ColMetaRescValue      = 631
	ColMetaRescUnits      = 632
	ColMetaRescID         = 633
	ColMetaRescCreateTime = 634
	ColMetaRescModifyTime = 635
	ColMetaUserName       = 640
	ColMetaUserValue      = 641
	ColMetaUserUnits      = 642
	ColMetaUserID         = 643
	ColMetaUserCreateTime = 644
	ColMetaUserModifyTime = 645

	ColDataAccessType     = 700
	ColDataAccessName     = 701
	ColDataTokenNamespace = 702
	ColDataAccessUserID   = 703
	ColDataAccessDataID   = 704
	ColCollAccessType     = 710
	ColCollAccessName     = 711
	ColCollTokenNamespace = 712
	ColCollAccessUserID   = 713
	ColCollAccessCollID   = 714
	ColUserGroupID        = 900
	ColUserGroupName      = 901
	ColCollAccessUserName = 1300
	ColCollAccessUserZone = 1301
	ColDataAccessUserName = 1310
	ColDataAccessUserZone = 1311
	ColQuotaUserID        = 2000
	ColQuotaRescID        = 2001
	ColQuotaLimit         = 2002
	ColQuotaOver          = 2003
	ColTicketID           = 2200
	ColTicketString       = 2201
	ColTicketType         = 2202
	ColTicketUserID       = 2203
	ColTicketObjectID     = 2204
	ColTicketObjectType   = 2205
	ColTicketUsesLimit    = 2206
	ColTicketUsesCount    = 2207
	ColTicketExpiry       = 2208
	ColTicketCreateTime   = 2209
	ColTicketModifyTime   = 2210
	ColTicketDataName     = 2226
	ColTicketDataCollName = 2227
	ColTicketCollName     = 2228
	ColTicketOwnerName    = 2229
	ColTicketOwnerZone    = 2230
	ColTicketWriteCount   = 2211
	ColTicketWriteLimit   = 2212
	ColTicketBytesCount   = 2213
	ColTicketBytesLimit   = 2214
	ColTicketAllowedHost  = 2221
	ColTicketAllowedUser  = 2222
	ColTicketAllowedGroup = 2225
	ColTokenNamespace     = 1100
	ColTokenID            = 1101
	ColTokenName          = 1102
	ColTokenValue         = 1103

	// ColOffset is the offset of an object's end in the byte stream of a bulk put.
	ColOffset = 999998
)
