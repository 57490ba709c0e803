package policies

// History is how many actions of a run Repeats looks back on.
const History = 16

// MaxRepeats bounds the amount of a limit of repeats to what two alternating
// actions can still reach within History.
const MaxRepeats = 8

// Repeats says how often the same action was taken in a row, ending with
// the next one: exactly the same, or in turn with one other (A-B-A-B). It is 1
// for one that is new. The history has hashes of actions, the newest last; what
// is older than History is not looked at.
func Repeats(history []uint64, next uint64) int64 {
	if len(history) > History {
		history = history[len(history)-History:]
	}
	at := func(back int) uint64 { // 0 is the next one, 1 the newest
		if back == 0 {
			return next
		}
		return history[len(history)-back]
	}
	run := 1
	for run <= len(history) && at(run) == next {
		run++
	}
	cycle := min(2, len(history)+1) // actions that equal the one two before
	for cycle <= len(history) && at(cycle) == at(cycle-2) {
		cycle++
	}
	return int64(max(run, (cycle+1)/2))
}
