package load

import "testing"

func TestAWholeAnswerIsFound(t *testing.T) {
	const answer = "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\ncontent-LENGTH: 2\r\nDate: now\r\n\r\n{}"
	for cut := range len(answer) {
		if _, _, size, err := parseAnswer([]byte(answer[:cut])); size != 0 || err != nil {
			t.Fatalf("%d of %d bytes are taken for a whole answer (%v)", cut, len(answer), err)
		}
	}
	status, body, size, err := parseAnswer([]byte(answer + "HTTP"))
	if status != 201 || string(body) != "{}" || size != len(answer) || err != nil {
		t.Errorf("status %d, body %q, size %d of %d, error %v", status, body, size, len(answer), err)
	}
}

func TestAnswersOfAnotherFormAreRefused(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
		"\r\n\r\n",
	} {
		if _, _, size, err := parseAnswer([]byte(answer)); err == nil {
			t.Errorf("%q is taken for an answer of %d bytes", answer, size)
		}
	}
}
