package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/pikarc/server/server"
)

// smtpPassword comes from the environment only, as all secrets do.
const smtpPassword = settingPrefix + "SMTP_PASSWORD"

// notifyOptions say how notifications leave this server.
type notifyOptions struct {
	private                            bool
	smtpHost, smtpFrom, smtpUser, mode string
	smtpPort                           int
}

// flags defines the flags about notifications.
func (o *notifyOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.private, "webhook-private", false,
		"let endpoints be on loopback, private and link-local addresses too, and on plain http")
	f.StringVar(&o.smtpHost, "smtp-host", "",
		"SMTP server that sends email; none is sent when empty. Its password is PIKARC_SMTP_PASSWORD")
	f.IntVar(&o.smtpPort, "smtp-port", 0, "port of the SMTP server; by --smtp-tls 587, 465 or 25 unless set")
	f.StringVar(&o.mode, "smtp-tls", "starttls", "how to speak to it: starttls, tls or none")
	f.StringVar(&o.smtpUser, "smtp-username", "", "name to sign in there with; without signing in when empty")
	f.StringVar(&o.smtpFrom, "smtp-from", "", "sender of email, such as pikarc@example.com")
}

// smtp checks the options of email; nil when none is sent.
func (o notifyOptions) smtp() (*server.SMTP, error) {
	password, err := setting(smtpPassword)
	switch {
	case err != nil:
		return nil, err
	case o.mode == "" && o.smtpHost == "":
		return nil, nil // a command without these settings
	case !slices.Contains(server.SMTPModes(), o.mode):
		return nil, fmt.Errorf("--smtp-tls %q: choose %s", o.mode, strings.Join(server.SMTPModes(), ", "))
	// Settings without a host would be silently useless.
	case o.smtpHost == "" && (o.smtpFrom != "" || o.smtpUser != "" || password != ""):
		return nil, errors.New("there are SMTP settings, but no --smtp-host")
	case o.smtpHost == "":
		return nil, nil
	case o.smtpPort < 0 || o.smtpPort > 65535:
		return nil, fmt.Errorf("--smtp-port %d: must be 1 to 65535, or 0 for the usual one", o.smtpPort)
	case server.CheckEmail(o.smtpFrom) != nil:
		return nil, fmt.Errorf("--smtp-from %q: write an email address, such as pikarc@example.com", o.smtpFrom)
	case (o.smtpUser == "") != (password == ""):
		return nil, fmt.Errorf("--smtp-username and %s go together: one of them is missing", smtpPassword)
	}
	port := o.smtpPort
	if port == 0 {
		port = map[string]int{"starttls": 587, "tls": 465, "none": 25}[o.mode]
	}
	return &server.SMTP{
		Host: o.smtpHost, Port: port, TLS: o.mode, Username: o.smtpUser, From: o.smtpFrom,
		// A function, so that the password is in no value that a log might print.
		Password: func() string { return strings.TrimSpace(password) },
	}, nil
}
