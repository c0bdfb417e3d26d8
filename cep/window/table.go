package window

// table finds a key's record by its hash. It is an open-addressing table in
// which the entries stand in the order of (hash, key) from their home slot on
// (linear probing, ordered as in Amble and Knuth, "Ordered Hash Tables", 1974),
// so that where an entry stands follows from the set of keys alone and walking
// the slots visits the keys in that order.
//
// A slot is hash<<32 | record+1; 0 is empty.
type table struct {
	slots []uint64
	shift uint // home = hash >> shift
	n     int
	floor int // homes that it does not shrink below
	// less orders two records of equal hash by their keys.
	less func(a, b uint32) bool
}

const (
	tableMin = 64 // slots
	tablePad = 16 // slots behind the last home
)

func newTable(less func(a, b uint32) bool) table {
	t := table{less: less}
	t.alloc(tableMin)
	return t
}

func (t *table) alloc(homes int) {
	t.slots = make([]uint64, homes+tablePad)
	t.shift = 32
	for ; homes > 1; homes >>= 1 {
		t.shift--
	}
}

func (t *table) homes() int { return 1 << (32 - t.shift) }

func (t *table) home(hash uint32) int { return int(uint64(hash) >> t.shift) }

// reserve makes room for n records, before they come in the order of their hashes:
// in a table that grows with them all would belong to its first places.
func (t *table) reserve(n int) {
	homes := tableMin
	for n*4 >= homes*3 {
		homes *= 2
	}
	if homes > t.homes() {
		t.resize(homes)
	}
	t.floor = homes
}

// insert adds a record that is not in the table.
func (t *table) insert(hash, rec uint32) {
	if t.n*4 >= t.homes()*3 {
		t.resize(t.homes() * 2)
	}
	t.n++
	t.place(hash, rec)
}

func (t *table) place(hash, rec uint32) {
	i := t.home(hash)
	for ; i < len(t.slots) && t.slots[i] != 0; i++ {
		h := uint32(t.slots[i] >> 32)
		if h > hash || h == hash && t.less(rec, uint32(t.slots[i])-1) {
			break
		}
	}
	carry := uint64(hash)<<32 | uint64(rec+1)
	for ; carry != 0; i++ {
		if i == len(t.slots) {
			t.slots = append(t.slots, 0)
		}
		carry, t.slots[i] = t.slots[i], carry
	}
}

// remove takes a record out of the table.
func (t *table) remove(hash, rec uint32) {
	want := uint64(hash)<<32 | uint64(rec+1)
	i := t.home(hash)
	for t.slots[i] != want {
		i++
	}
	for i+1 < len(t.slots) && t.slots[i+1] != 0 && t.home(uint32(t.slots[i+1]>>32)) <= i {
		t.slots[i] = t.slots[i+1]
		i++
	}
	t.slots[i] = 0
	t.n--
	if t.n*8 < t.homes() && t.homes() > max(t.floor, tableMin) {
		t.resize(t.homes() / 2)
	}
}

// resize moves the entries, which stand in order already.
func (t *table) resize(homes int) {
	old := t.slots
	t.alloc(homes)
	next := 0
	for _, s := range old {
		if s == 0 {
			continue
		}
		next = max(next, t.home(uint32(s>>32)))
		if next == len(t.slots) {
			t.slots = append(t.slots, 0)
		}
		t.slots[next] = s
		next++
	}
}
