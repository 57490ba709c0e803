package agent

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Payloads writes what agents send along with their steps: JSON objects of the
// usual shapes, each with its own piece of English text, so that they compress
// as such texts do and not as one text that is repeated.
type Payloads struct {
	size   int
	prose  string // escaped for JSON
	random *rand.Rand
}

// NewPayloads makes payloads of so many bytes each from the documentation below
// a directory. The same seed makes the same ones.
func NewPayloads(docs string, size int, seed uint64) (*Payloads, error) {
	var all strings.Builder
	for _, pattern := range []string{"*.md", "ops/*.md"} {
		files, err := filepath.Glob(filepath.Join(docs, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			all.Write(text)
		}
	}
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r > '~' || strings.ContainsRune("<>&", r) { // longer escapes
			return -1
		}
		return r
	}, all.String())
	escaped, err := json.Marshal(ascii)
	if err != nil {
		return nil, err
	}
	return &Payloads{size: size, prose: string(escaped[1 : len(escaped)-1]),
		random: rand.New(rand.NewPCG(seed, seed))}, nil
}

// Append appends the next payload.
func (p *Payloads) Append(buf []byte) []byte {
	begin := len(buf)
	var end string
	switch r := p.random; r.IntN(4) {
	case 0:
		buf = append(buf, `{"messages":[{"role":"user","content":"`...)
		end = `"}],"temperature":0.` + strconv.Itoa(r.IntN(10)) + `,"max_tokens":` +
			strconv.Itoa(r.IntN(4096)) + `}`
	case 1:
		buf = append(buf, `{"query":"`...)
		buf = p.quote(buf, 30)
		buf = append(buf, `","top_k":`...)
		buf = strconv.AppendInt(buf, r.Int64N(20), 10)
		buf = append(buf, `,"filters":{"customer_id":"cus_`...)
		buf = strconv.AppendUint(buf, r.Uint64(), 16)
		buf = append(buf, `","language":"en"},"context":"`...)
		end = `"}`
	case 2:
		buf = append(buf, `{"messages":[{"role":"tool","tool_call_id":"call_`...)
		buf = strconv.AppendUint(buf, r.Uint64(), 16)
		buf = append(buf, `","content":"`...)
		end = `"}]}`
	default:
		buf = append(buf, `{"path":"src/`...)
		buf = strconv.AppendUint(buf, uint64(r.Uint32()), 16)
		buf = append(buf, `/main.py","start_line":`...)
		buf = strconv.AppendInt(buf, r.Int64N(1000), 10)
		buf = append(buf, `,"content":"`...)
		end = `"}`
	}
	for {
		left := p.size - (len(buf) - begin) - len(end)
		if left < 1 {
			return append(buf, end...)
		}
		buf = append(p.quote(buf, min(left-1, 20+p.random.IntN(100))), ' ')
	}
}

// quote appends so many bytes of the prose, or a few fewer: an escape is never cut.
func (p *Payloads) quote(buf []byte, n int) []byte {
	at := p.random.IntN(len(p.prose) - n)
	for at > 0 && p.prose[at-1] == '\\' {
		at--
	}
	piece := p.prose[at : at+n]
	for strings.HasSuffix(piece, `\`) {
		piece = piece[:len(piece)-1]
	}
	return append(buf, piece...)
}
