// Package adapters tries the Go client with the libraries of OpenAI and Anthropic. It is
// a module of its own, so that the client needs neither.
package adapters
