package limit

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// However what comes in is split into reads, each name is counted once.
func TestLengthNamesAreCountedAcrossReads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.SampledFrom([]string{
			"Content-Length", "CONTENT-LENGTH", "content-lengtH", "Content-Lengt", "h", ":", ": ", "\r\n", "x", "Content-Length: 5\r\n", "ent-length:", "content",
		})
		stream := strings.Join(rapid.SliceOfN(piece, 0, 30).Draw(t, "stream"), "")
		var l nameCounter
		for rest := stream; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "read")
			l.count([]byte(rest[:n]))
			rest = rest[n:]
		}
		if got, want := l.n.Load(), strings.Count(strings.ToLower(stream), "content-length:"); got != int64(want) {
			t.Fatalf("%q: counted %d, want %d", stream, got, want)
		}
	})
}

func BenchmarkCountNames(b *testing.B) {
	request := []byte("POST /v1/runs/01a2073c-1a43-7c31-9f0a-6a1f0b8e4d52/steps HTTP/1.1\r\nHost: localhost:8000\r\n" +
		"Authorization: Bearer lg_0a1b2c3d_" + strings.Repeat("5e", 32) + "\r\nContent-Type: application/json\r\nAccept: */*\r\n" +
		"User-Agent: python-httpx/0.28.1\r\nContent-Length: 118\r\n\r\n" +
		`{"type":"MODEL_CALL","sequence":3,"model":"gpt-4o","input_data":{"prompt":"Summarise the quarterly report in three sentences."}}`)
	var l nameCounter
	for b.Loop() {
		l.count(request)
	}
}
