package broker

// A request of a megabyte can name one topic, group or partition a hundred thousand
// times. What is large to tell is told once: so an answer is bounded by what there
// is, and not by how often it is asked for.

// distinct is list without what is like an earlier element.
func distinct[T any, K comparable](list []T, key func(*T) K) []T {
	if len(list) < 2 {
		return list
	}
	seen := make(map[K]bool, len(list))
	var out []T
	for i := range list {
		if k := key(&list[i]); !seen[k] {
			seen[k] = true
			out = append(out, list[i])
		}
	}
	return out
}

// distinctNames is list without repetitions.
func distinctNames(list []string) []string {
	return distinct(list, func(s *string) string { return *s })
}

// setOf is the elements of list.
func setOf[T comparable](list []T) map[T]bool {
	set := make(map[T]bool, len(list))
	for _, one := range list {
		set[one] = true
	}
	return set
}
