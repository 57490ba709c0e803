package storage

import (
	"context"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

// ChangeKind is what a Change is about.
type ChangeKind uint8

// What can change.
const (
	RunStarted         ChangeKind = iota + 1
	RunDenied                     // at its start
	RunEnded                      // by whom ever
	RunProgressed                 // its steps, tokens or spend
	StepDenied                    // has a Denial
	ConfigChanged                 // has a Part
	CredentialsChanged            // some of the workspace's credentials have ended
	ModelUnpriced                 // a step used the first tokens of a day that its Model has no price for
	SpendCapped                   // a step used more than its day or run had room for, and filled it
)

// ConfigPart is a part of a workspace's configuration.
type ConfigPart uint8

// The parts that can change.
const (
	PartWorkspace ConfigPart = iota + 1 // limits, kill switch, name
	PartAPIKey
	PartPrices
	PartUsers // blocked ones
	PartPlan
)

// String is the word that the API uses.
func (p ConfigPart) String() string {
	return word("part", int(p), "workspace", "api_key", "prices", "users", "plan")
}

// Change is something that a committed write did.
type Change struct {
	Workspace WorkspaceKey
	Kind      ChangeKind
	Part      ConfigPart // of ConfigChanged
	Run       int64      // internal id, for Moment; 0 where no run is concerned
	Step      uuid.UUID  // of ModelUnpriced and SpendCapped
	Model     string     // of ModelUnpriced; "" for a step without a model
	Denial    *Denial    // of StepDenied
}

// Denial is a step that was denied, and why.
type Denial struct {
	Step     uuid.UUID
	Decision guard.Decision
}

// notes are the changes of the batch that is being written. Only the writer uses them.
type notes struct {
	publish func([]Change) // nil while nobody watches
	list    []Change
}

// note remembers a change until the batch is committed. It costs nothing
// while nobody watches.
func (tx *Tx) note(c Change) {
	if tx.notes != nil && tx.notes.publish != nil {
		tx.notes.list = append(tx.notes.list, c)
	}
}

// begin forgets the last batch, and asks anew whether somebody watches.
func (n *notes) begin(s *Store) {
	*n = notes{}
	if publish := s.watcher.Load(); publish != nil {
		n.publish = *publish
	}
}

// tell hands the changes of a committed batch over, for good.
func (n *notes) tell() {
	if len(n.list) > 0 {
		n.publish(n.list)
	}
}

// Watch has publish called with the changes of every batch after its commit,
// in the order of the commits, until Unwatch; there is one watcher at a time.
// What is committed after Watch returns is told. The writer calls publish, so
// it must not block, and it owns the list. Errors are those of a write.
func (s *Store) Watch(ctx context.Context, publish func([]Change)) error {
	s.watcher.Store(&publish)
	// A batch that began before may end without having taken notes; this write comes after it.
	if _, err := s.ChangedElsewhere(ctx); err != nil {
		s.Unwatch()
		return err
	}
	return nil
}

// Unwatch ends what Watch began. A batch that is being written may still be told.
func (s *Store) Unwatch() { s.watcher.Store(nil) }

// ChangedElsewhere tells whether another process has committed to the file
// since the last time it was asked.
func (s *Store) ChangedElsewhere(ctx context.Context) (changed bool, err error) {
	var version int64
	err = s.write(ctx, inMemory, func(tx *Tx) error { version = tx.memory.version; return nil })
	if err == nil {
		changed = s.dataVersion.Swap(version) != version
	}
	return changed, err
}
