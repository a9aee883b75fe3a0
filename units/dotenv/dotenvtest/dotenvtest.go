// Package dotenvtest has texts of .env files for tests.
package dotenvtest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Canary stands for every secret: it must turn up nowhere.
const Canary = "c4n4ryS3cret"

// Vector is one .env with what it must give. They came from comparing godotenv
// with systemd 252 and 257 themselves.
type Vector struct {
	Name   string            `json:"name"`
	Dotenv string            `json:"dotenv"`
	Base64 []byte            `json:"dotenv_b64"` // the text instead, where it is not UTF-8
	Values map[string]string `json:"values"`
	Reject string            `json:"reject"` // why it is refused
}

// Text is the .env's.
func (v Vector) Text() []byte {
	if v.Base64 != nil {
		return v.Base64
	}
	return []byte(v.Dotenv)
}

//go:embed vectors.json
var vectors []byte

// Vectors are all of them.
func Vectors(t testing.TB) (all []Vector) {
	t.Helper()
	if err := json.Unmarshal(vectors, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Bomb is an .env whose values grow tenfold with each level.
func Bomb(levels int) string {
	var b strings.Builder
	b.WriteString("A0=xxxxxxxxxx\n")
	for i := 1; i <= levels; i++ {
		fmt.Fprintf(&b, "A%d=%s\n", i, strings.Repeat(fmt.Sprintf("$A%d-", i-1), 10))
	}
	return b.String()
}
