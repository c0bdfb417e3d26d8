package table

// Of is a View of tables that are in no log: what the cases of rules look up.
func Of(entries map[*Definition][]Entry) (*View, error) {
	e := emptyView.edit()
	for d, rows := range entries {
		if err := e.apply(&Change{Op: OpDeclare, Definition: d}); err != nil {
			return nil, err
		}
		for i := range rows {
			if err := e.apply(&Change{Op: OpPut, Table: d.Name, Entry: rows[i]}); err != nil {
				return nil, err
			}
		}
	}
	return e.view(0), nil
}
