package zone

import (
	"path/filepath"
	"strconv"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// need says which entities a column is about.
type need uint16

const (
	needData need = 1 << iota
	needColl
	needResc
	needUser
	needGroup
	needZone
	needTicket
	needDataMeta
	needCollMeta
	needRescMeta
	needUserMeta
	needDataAccess
	needCollAccess
	needMember
)

// row is one combination of entities that belong together.
type row struct {
	z        *Zone
	coll     *coll
	obj      *object
	repl     *replica
	resc     *resource
	user     *user
	group    *user
	ticket   *ticket
	dataMeta *avu
	collMeta *avu
	rescMeta *avu
	userMeta *avu
	grantee  *user
	member   *user // the grantee, or a member of the group that is
	granted  level
}

// column is a column of the catalog.
type column struct {
	name   string // in the second query language
	need   need
	number bool // compared and sorted as a number
	value  func(*row) string
}

func id(n int64) string { return strconv.FormatInt(n, 10) }

// columnAt returns the column of that number.
func columnAt(n int) (column, bool) {
	for _, part := range columnTables() {
		if c, ok := part[n]; ok {
			return c, true
		}
	}
	return column{}, false
}

func columnTables() []map[int]column {
	return []map[int]column{dataColumns, collColumns, otherColumns, metaColumns, accessColumns}
}

var dataColumns = map[int]column{
	wire.ColDataID:        {"DATA_ID", needData, true, func(r *row) string { return id(r.obj.ID) }},
	wire.ColDataCollID:    {"DATA_COLL_ID", needData, true, func(r *row) string { return id(r.obj.CollID) }},
	wire.ColDataName:      {"DATA_NAME", needData, false, func(r *row) string { return r.obj.Name }},
	wire.ColReplNum:       {"DATA_REPL_NUM", needData, true, func(r *row) string { return strconv.Itoa(r.repl.Num) }},
	wire.ColDataVersion:   {"DATA_VERSION", needData, false, func(*row) string { return "" }},
	wire.ColDataType:      {"DATA_TYPE_NAME", needData, false, func(r *row) string { return r.obj.Type }},
	wire.ColDataSize:      {"DATA_SIZE", needData, true, func(r *row) string { return id(r.repl.Size) }},
	wire.ColDataRescGroup: {"DATA_RESC_GROUP_NAME", needData, false, func(*row) string { return "" }},
	wire.ColDataRescName:  {"DATA_RESC_NAME", needData, false, func(r *row) string { return r.onResource().Name }},
	wire.ColDataPath:      {"DATA_PATH", needData, false, func(r *row) string { return r.z.cat.file(r.obj, r.repl) }},
	wire.ColDataOwnerName: {"DATA_OWNER_NAME", needData, false, func(r *row) string { name, _ := owner(r.obj.Owner, r.z.opts.Name); return name }},
	wire.ColDataOwnerZone: {"DATA_OWNER_ZONE", needData, false, func(r *row) string { _, zone := owner(r.obj.Owner, r.z.opts.Name); return zone }},
	wire.ColReplStatus:    {"DATA_REPL_STATUS", needData, true, func(r *row) string { return strconv.Itoa(r.repl.Status) }},
	wire.ColDataStatus:    {"DATA_STATUS", needData, false, func(*row) string { return "" }},
	wire.ColDataChecksum:  {"DATA_CHECKSUM", needData, false, func(r *row) string { return r.repl.Checksum }},
	wire.ColDataExpiry:    {"DATA_EXPIRY", needData, false, func(*row) string { return stamp(0) }},
	wire.ColDataMapID:     {"DATA_MAP_ID", needData, true, func(*row) string { return "0" }},
	wire.ColDataComments:  {"DATA_COMMENTS", needData, false, func(*row) string { return "" }},

	wire.ColDataCreateTime: {"DATA_CREATE_TIME", needData, false, func(r *row) string { return stamp(r.repl.Create) }},
	wire.ColDataModifyTime: {"DATA_MODIFY_TIME", needData, false, func(r *row) string { return stamp(r.repl.Modify) }},
	wire.ColDataAccessTime: {"DATA_ACCESS_TIME", needData, false, func(r *row) string { return stamp(r.repl.Modify) }},
	wire.ColDataMode:       {"DATA_MODE", needData, false, func(r *row) string { return r.obj.Mode }},
	wire.ColDataRescHier:   {"DATA_RESC_HIER", needData, false, func(r *row) string { return r.onResource().Name }},
	wire.ColDataRescID:     {"DATA_RESC_ID", needData, true, func(r *row) string { return id(r.repl.Resc) }},
}

func (r *row) onResource() *resource { return r.z.cat.resources[r.repl.Resc] }

var collColumns = map[int]column{
	wire.ColCollID:   {"COLL_ID", needColl, true, func(r *row) string { return id(r.coll.ID) }},
	wire.ColCollName: {"COLL_NAME", needColl, false, func(r *row) string { return r.coll.path() }},
	wire.ColCollParentName: {"COLL_PARENT_NAME", needColl, false, func(r *row) string {
		if r.coll.parent == nil {
			return "/"
		}
		return r.coll.parent.path()
	}},
	wire.ColCollOwnerName: {"COLL_OWNER_NAME", needColl, false, func(r *row) string { name, _ := owner(r.coll.Owner, r.z.opts.Name); return name }},
	wire.ColCollOwnerZone: {"COLL_OWNER_ZONE", needColl, false, func(r *row) string { _, zone := owner(r.coll.Owner, r.z.opts.Name); return zone }},
	wire.ColCollMapID:     {"COLL_MAP_ID", needColl, true, func(*row) string { return "0" }},
	wire.ColCollInheritance: {"COLL_INHERITANCE", needColl, false, func(r *row) string {
		if r.coll.Inherit {
			return "1"
		}
		return ""
	}},
	wire.ColCollComments:   {"COLL_COMMENTS", needColl, false, func(*row) string { return "" }},
	wire.ColCollCreateTime: {"COLL_CREATE_TIME", needColl, false, func(r *row) string { return stamp(r.coll.Create) }},
	wire.ColCollModifyTime: {"COLL_MODIFY_TIME", needColl, false, func(r *row) string { return stamp(r.coll.Modify) }},
	wire.ColCollType:       {"COLL_TYPE", needColl, false, func(*row) string { return "" }},
	wire.ColCollInfo1:      {"COLL_INFO_1", needColl, false, func(*row) string { return "" }},
	wire.ColCollInfo2:      {"COLL_INFO_2", needColl, false, func(*row) string { return "" }},
}

var otherColumns = map[int]column{
	wire.ColZoneID:         {"ZONE_ID", needZone, true, func(*row) string { return "9000" }},
	wire.ColZoneName:       {"ZONE_NAME", needZone, false, func(r *row) string { return r.z.opts.Name }},
	wire.ColZoneType:       {"ZONE_TYPE", needZone, false, func(*row) string { return "local" }},
	wire.ColZoneConnection: {"ZONE_CONNECTION", needZone, false, func(*row) string { return "" }},
	wire.ColZoneComment:    {"ZONE_COMMENT", needZone, false, func(*row) string { return "" }},

	wire.ColUserID:         {"USER_ID", needUser, true, func(r *row) string { return id(r.user.ID) }},
	wire.ColUserName:       {"USER_NAME", needUser, false, func(r *row) string { return r.user.Name }},
	wire.ColUserType:       {"USER_TYPE", needUser, false, func(r *row) string { return r.user.Type }},
	wire.ColUserZone:       {"USER_ZONE", needUser, false, func(r *row) string { return r.user.zone(r.z.opts.Name) }},
	wire.ColUserInfo:       {"USER_INFO", needUser, false, func(*row) string { return "" }},
	wire.ColUserComment:    {"USER_COMMENT", needUser, false, func(*row) string { return "" }},
	wire.ColUserCreateTime: {"USER_CREATE_TIME", needUser, false, func(r *row) string { return stamp(r.user.Time) }},
	wire.ColUserModifyTime: {"USER_MODIFY_TIME", needUser, false, func(r *row) string { return stamp(r.user.Time) }},
	wire.ColUserGroupID:    {"USER_GROUP_ID", needUser | needGroup, true, func(r *row) string { return id(r.group.ID) }},
	wire.ColUserGroupName:  {"USER_GROUP_NAME", needUser | needGroup, false, func(r *row) string { return r.group.Name }},

	wire.ColRescID:       {"RESC_ID", needResc, true, func(r *row) string { return id(r.resc.ID) }},
	wire.ColRescName:     {"RESC_NAME", needResc, false, func(r *row) string { return r.resc.Name }},
	wire.ColRescZone:     {"RESC_ZONE_NAME", needResc, false, func(r *row) string { return r.z.opts.Name }},
	wire.ColRescType:     {"RESC_TYPE_NAME", needResc, false, func(*row) string { return "unixfilesystem" }},
	wire.ColRescClass:    {"RESC_CLASS_NAME", needResc, false, func(*row) string { return "cache" }},
	wire.ColRescLocation: {"RESC_LOC", needResc, false, func(*row) string { return "localhost" }},
	wire.ColRescVaultPath: {"RESC_VAULT_PATH", needResc, false, func(r *row) string {
		return filepath.Clean(r.z.cat.vault(r.resc))
	}},
	wire.ColRescFreeSpace:     {"RESC_FREE_SPACE", needResc, false, func(r *row) string { return r.z.freeSpace(r.resc) }},
	wire.ColRescInfo:          {"RESC_INFO", needResc, false, func(*row) string { return "" }},
	wire.ColRescComment:       {"RESC_COMMENT", needResc, false, func(*row) string { return "" }},
	wire.ColRescCreateTime:    {"RESC_CREATE_TIME", needResc, false, func(r *row) string { return stamp(r.resc.Time) }},
	wire.ColRescModifyTime:    {"RESC_MODIFY_TIME", needResc, false, func(r *row) string { return stamp(r.resc.Time) }},
	wire.ColRescStatus:        {"RESC_STATUS", needResc, false, func(*row) string { return "up" }},
	wire.ColRescFreeSpaceTime: {"RESC_FREE_SPACE_TIME", needResc, false, func(*row) string { return "" }},
	wire.ColRescChildren:      {"RESC_CHILDREN", needResc, false, func(*row) string { return "" }},
	wire.ColRescContext:       {"RESC_CONTEXT", needResc, false, func(*row) string { return "" }},
	wire.ColRescParent:        {"RESC_PARENT_ID", needResc, false, func(*row) string { return "" }},
	wire.ColRescParentContext: {"RESC_PARENT_CONTEXT", needResc, false, func(*row) string { return "" }},

	wire.ColTicketID:     {"TICKET_ID", needTicket, true, func(r *row) string { return id(r.ticket.ID) }},
	wire.ColTicketString: {"TICKET_STRING", needTicket, false, func(r *row) string { return r.ticket.Text }},
	wire.ColTicketType: {"TICKET_TYPE", needTicket, false, func(r *row) string {
		if r.ticket.Write {
			return "write"
		}
		return "read"
	}},
	wire.ColTicketUserID:     {"TICKET_USER_ID", needTicket, true, func(r *row) string { return id(r.ticket.Owner) }},
	wire.ColTicketObjectID:   {"TICKET_OBJECT_ID", needTicket, true, func(r *row) string { return id(r.ticket.Entity) }},
	wire.ColTicketExpiry:     {"TICKET_EXPIRY", needTicket, false, func(r *row) string { return id(r.ticket.Expiry) }},
	wire.ColTicketCreateTime: {"TICKET_CREATE_TIME", needTicket, false, func(r *row) string { return stamp(r.ticket.Create) }},
}

var metaColumns = map[int]column{
	wire.ColMetaDataName:       {"META_DATA_ATTR_NAME", needData | needDataMeta, false, func(r *row) string { return r.dataMeta.Name }},
	wire.ColMetaDataValue:      {"META_DATA_ATTR_VALUE", needData | needDataMeta, false, func(r *row) string { return r.dataMeta.Value }},
	wire.ColMetaDataUnits:      {"META_DATA_ATTR_UNITS", needData | needDataMeta, false, func(r *row) string { return r.dataMeta.Units }},
	wire.ColMetaDataID:         {"META_DATA_ATTR_ID", needData | needDataMeta, true, func(r *row) string { return id(r.dataMeta.ID) }},
	wire.ColMetaDataCreateTime: {"META_DATA_CREATE_TIME", needData | needDataMeta, false, func(r *row) string { return stamp(r.dataMeta.Time) }},
	wire.ColMetaDataModifyTime: {"META_DATA_MODIFY_TIME", needData | needDataMeta, false, func(r *row) string { return stamp(r.dataMeta.Time) }},

	wire.ColMetaCollName:       {"META_COLL_ATTR_NAME", needColl | needCollMeta, false, func(r *row) string { return r.collMeta.Name }},
	wire.ColMetaCollValue:      {"META_COLL_ATTR_VALUE", needColl | needCollMeta, false, func(r *row) string { return r.collMeta.Value }},
	wire.ColMetaCollUnits:      {"META_COLL_ATTR_UNITS", needColl | needCollMeta, false, func(r *row) string { return r.collMeta.Units }},
	wire.ColMetaCollID:         {"META_COLL_ATTR_ID", needColl | needCollMeta, true, func(r *row) string { return id(r.collMeta.ID) }},
	wire.ColMetaCollCreateTime: {"META_COLL_CREATE_TIME", needColl | needCollMeta, false, func(r *row) string { return stamp(r.collMeta.Time) }},
	wire.ColMetaCollModifyTime: {"META_COLL_MODIFY_TIME", needColl | needCollMeta, false, func(r *row) string { return stamp(r.collMeta.Time) }},

	wire.ColMetaRescName:       {"META_RESC_ATTR_NAME", needResc | needRescMeta, false, func(r *row) string { return r.rescMeta.Name }},
	wire.ColMetaRescValue:      {"META_RESC_ATTR_VALUE", needResc | needRescMeta, false, func(r *row) string { return r.rescMeta.Value }},
	wire.ColMetaRescUnits:      {"META_RESC_ATTR_UNITS", needResc | needRescMeta, false, func(r *row) string { return r.rescMeta.Units }},
	wire.ColMetaRescID:         {"META_RESC_ATTR_ID", needResc | needRescMeta, true, func(r *row) string { return id(r.rescMeta.ID) }},
	wire.ColMetaRescCreateTime: {"META_RESC_CREATE_TIME", needResc | needRescMeta, false, func(r *row) string { return stamp(r.rescMeta.Time) }},
	wire.ColMetaRescModifyTime: {"META_RESC_MODIFY_TIME", needResc | needRescMeta, false, func(r *row) string { return stamp(r.rescMeta.Time) }},

	wire.ColMetaUserName:       {"META_USER_ATTR_NAME", needUser | needUserMeta, false, func(r *row) string { return r.userMeta.Name }},
	wire.ColMetaUserValue:      {"META_USER_ATTR_VALUE", needUser | needUserMeta, false, func(r *row) string { return r.userMeta.Value }},
	wire.ColMetaUserUnits:      {"META_USER_ATTR_UNITS", needUser | needUserMeta, false, func(r *row) string { return r.userMeta.Units }},
	wire.ColMetaUserID:         {"META_USER_ATTR_ID", needUser | needUserMeta, true, func(r *row) string { return id(r.userMeta.ID) }},
	wire.ColMetaUserCreateTime: {"META_USER_CREATE_TIME", needUser | needUserMeta, false, func(r *row) string { return stamp(r.userMeta.Time) }},
	wire.ColMetaUserModifyTime: {"META_USER_MODIFY_TIME", needUser | needUserMeta, false, func(r *row) string { return stamp(r.userMeta.Time) }},
}

var accessColumns = map[int]column{
	wire.ColDataAccessType:     {"DATA_ACCESS_PERM_ID", needData | needDataAccess, true, func(r *row) string { return id(int64(r.granted)) }},
	wire.ColDataAccessName:     {"DATA_ACCESS_PERM_NAME", needData | needDataAccess, false, func(r *row) string { return r.granted.String() }},
	wire.ColDataTokenNamespace: {"DATA_TOKEN_NAMESPACE", needData | needDataAccess, false, func(*row) string { return "access_type" }},
	wire.ColDataAccessUserID:   {"DATA_ACCESS_USER_ID", needData | needDataAccess, true, func(r *row) string { return id(r.grantee.ID) }},
	wire.ColDataAccessDataID:   {"DATA_ACCESS_DATA_ID", needData | needDataAccess, true, func(r *row) string { return id(r.obj.ID) }},
	wire.ColDataAccessUserName: {"DATA_ACCESS_USER_NAME", needData | needDataAccess | needMember, false, func(r *row) string { return r.member.Name }},
	wire.ColDataAccessUserZone: {"DATA_ACCESS_USER_ZONE", needData | needDataAccess | needMember, false, func(r *row) string { return r.member.zone(r.z.opts.Name) }},

	wire.ColCollAccessType:     {"COLL_ACCESS_PERM_ID", needColl | needCollAccess, true, func(r *row) string { return id(int64(r.granted)) }},
	wire.ColCollAccessName:     {"COLL_ACCESS_PERM_NAME", needColl | needCollAccess, false, func(r *row) string { return r.granted.String() }},
	wire.ColCollTokenNamespace: {"COLL_TOKEN_NAMESPACE", needColl | needCollAccess, false, func(*row) string { return "access_type" }},
	wire.ColCollAccessUserID:   {"COLL_ACCESS_USER_ID", needColl | needCollAccess, true, func(r *row) string { return id(r.grantee.ID) }},
	wire.ColCollAccessCollID:   {"COLL_ACCESS_COLL_ID", needColl | needCollAccess, true, func(r *row) string { return id(r.coll.ID) }},
	wire.ColCollAccessUserName: {"COLL_ACCESS_USER_NAME", needColl | needCollAccess | needMember, false, func(r *row) string { return r.member.Name }},
	wire.ColCollAccessUserZone: {"COLL_ACCESS_USER_ZONE", needColl | needCollAccess | needMember, false, func(r *row) string { return r.member.zone(r.z.opts.Name) }},
}
