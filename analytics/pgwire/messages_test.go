package pgwire

import "github.com/jackc/pgx/v5/pgproto3"

// The messages of the protocol that a test sends and receives by itself.
type (
	parseMessage    = pgproto3.Parse
	bindMessage     = pgproto3.Bind
	executeMessage  = pgproto3.Execute
	dataRow         = pgproto3.DataRow
	portalSuspended = pgproto3.PortalSuspended
	errorResponse   = pgproto3.ErrorResponse
	readyForQuery   = pgproto3.ReadyForQuery
)

var syncMessage pgproto3.Sync
