package protect

// forbidden are the names, in lower case and without separators, of what may never
// be stored after authorisation (PCI DSS 4.0.1, requirement 3.3): verification
// values, track data, PIN blocks.
var forbidden = func() map[string]bool {
	names := map[string]bool{}
	for _, value := range []string{"cvv", "cvv1", "cvv2", "cvc", "cvc1", "cvc2", "cvn", "cvn2", "csc", "cav", "cav2", "icvv", "dcvv"} {
		for _, before := range []string{"", "card", "cc", "creditcard"} {
			for _, after := range []string{"", "code", "number", "value", "num", "no"} {
				names[before+value+after] = true
			}
		}
	}
	for _, value := range []string{"verification", "security", "validation"} {
		for _, after := range []string{"code", "value", "number"} {
			names["card"+value+after] = true
			names["cc"+value+after] = true
		}
		names["card"+value] = true
	}
	for _, name := range []string{
		"track", "track1", "track2", "track3", "trackdata", "track1data", "track2data", "track3data", "trackone", "tracktwo",
		"track1equivalentdata", "track2equivalent", "track2equivalentdata", "fulltrack", "fulltrackdata", "magstripe", "magstripedata", "magneticstripe",
		"magneticstripedata", "pinblock", "encryptedpin", "encryptedpinblock", "cardpin",
	} {
		names[name] = true
	}
	delete(names, "track") // a track of music, a parcel's
	return names
}()

// forbiddenMax is the length of the longest of the names.
var forbiddenMax = func() (most int) {
	for name := range forbidden {
		most = max(most, len(name))
	}
	return most
}()

// Forbidden reports whether a member or column of that name holds what may never
// be stored. Upper and lower case and everything but letters and digits do not
// matter: "cvv2", "Card-CVC", "track_2".
func Forbidden(name string) bool { return isForbidden([]byte(name)) }

func isForbidden(name []byte) bool {
	var plain [64]byte
	n := 0
	for _, c := range name {
		switch {
		case c-'A' < 26:
			c |= 0x20
		case c-'a' >= 26 && !isDigit(c):
			continue
		}
		if n == forbiddenMax {
			return false
		}
		plain[n] = c
		n++
	}
	return n >= 3 && forbidden[string(plain[:n])]
}
