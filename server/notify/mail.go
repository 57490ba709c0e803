package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

// SMTP is how this server sends email.
type SMTP struct {
	Host     string
	Port     int
	TLS      string        // starttls, tls or none
	Username string        // empty: without signing in
	Password func() string // a function is never printed by mistake
	From     string
}

// SMTPModes are how a connection to an SMTP server is encrypted.
func SMTPModes() []string { return []string{"starttls", "tls", "none"} }

// newMail writes a message as plain text: there is nothing in it that a reader
// of mail could run. Its id is the same in every repeat.
func newMail(m message, from, to string) (*mail.Msg, string, error) {
	msg := mail.NewMsg()
	text := m.title + "\n"
	if m.text != "" {
		text += "\n" + m.text + "\n"
	}
	if m.actions != nil {
		text += "\nApprove: " + m.actions.Approve + "\nDeny: " + m.actions.Deny + "\n"
	}
	text += "\n" + m.link + "\n\n-- \n" + m.event.String() + ", workspace " + clean(m.workspace.Name) + "\n"
	err := errors.Join(msg.From(from), msg.To(to))
	if err != nil {
		return nil, "", fmt.Errorf("address an email: %w", err)
	}
	// The id ends with the sender's domain, as mail servers expect.
	_, domain, _ := strings.Cut(from, "@")
	msg.Subject("[Pikarc] " + m.title)
	msg.SetMessageIDWithValue(m.id + "@" + strings.Trim(domain, "> "))
	msg.SetDateWithValue(m.at)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // so that no auto-responder answers
	msg.SetBodyString(mail.TypeTextPlain, text)
	return msg, text, nil
}

// send hands an email to the SMTP server.
func (s *SMTP) send(ctx context.Context, msg *mail.Msg, timeout time.Duration) error {
	opts := []mail.Option{mail.WithPort(s.Port), mail.WithTimeout(timeout)}
	// Where encryption is asked for it is demanded, not only tried: a server that does not
	// offer it gets no message.
	switch s.TLS {
	case "tls":
		opts = append(opts, mail.WithSSL())
	case "none":
		opts = append(opts, mail.WithTLSPolicy(mail.NoTLS))
	default:
		opts = append(opts, mail.WithTLSPolicy(mail.TLSMandatory))
	}
	if s.Username != "" {
		opts = append(opts, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(s.Username), mail.WithPassword(s.Password()))
	}
	client, err := mail.NewClient(s.Host, opts...)
	if err != nil {
		return fmt.Errorf("set up SMTP: %w", err)
	}
	// A connection for each message: there are few, and servers end idle ones.
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return fmt.Errorf("send by SMTP: %w", err)
	}
	return nil
}
