package layout

// Values of records in __consumer_offsets and __transaction_state. They begin with
// their version (CheckValue).
var (
	OffsetCommitValue  = message(4, "int64 int32 string int64 0=uuid")
	GroupMetadataValue = message(4, "string int32 string? string? int64 [string string? string string int32 int32 bytes bytes]")
	TxnMetadataValue   = message(1, "int64 int16 int32 int8 [string []int32] int64 int64 0=int64 1=int64 2=int16 3=int16")
)
