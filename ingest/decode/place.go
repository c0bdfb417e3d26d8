package decode

// Place is where the text of a field's value lies in a record that decodes, a
// string's or a cell's quotes included; quoted tells whether it has them. It is
// false where the field is absent or its value has parts. It does not allocate.
func (d *Decoder) Place(value []byte, field int) (start, end int, quoted, ok bool) {
	if !d.scan(value) {
		return 0, 0, false, false
	}
	s := d.slots[d.fields[field].slot]
	start, end = int(s.start), int(s.end)
	switch s.kind {
	case text:
		return start - 1, end + 1, true, true
	case number, yes, no:
		return start, end, false, true
	case cell:
		if start > 0 && value[start-1] == '"' {
			return start - 1, end + 1, true, true
		}
		return start, end, false, true
	}
	return 0, 0, false, false
}
