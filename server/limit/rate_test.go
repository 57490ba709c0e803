package limit

import (
	"testing"
	"time"
)

func TestALimitersMemoryIsBounded(t *testing.T) {
	t.Parallel()
	l := NewRate[int](1, time.Now)
	for i := range 200_000 {
		l.Wait(i)
	}
	if n := l.bucket.Len(); n > limitedSubjects || n == 0 {
		t.Errorf("after 200,000 addresses it holds %d of them, want at most %d", n, limitedSubjects)
	}
}
