// Command exact is a server whose answers can be foretold to the byte, and the clients
// that check them:
//
//	exact serve       serves 127.0.0.1:PORT in the clear (HTTP/1.1 and HTTP/2), and
//	                  the port after it with TLS
//	exact large       prints the text that /file serves
//	exact ask         has the conversations of talks.go until the file /run/enough
//	                  appears, and prints what became of each
//
// The text of all bodies looks like requests and answers.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	err := fmt.Errorf("usage: exact serve, large or ask")
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case "serve":
			err = serve()
		case "large":
			_, err = os.Stdout.Write(large)
		case "ask":
			err = json.NewEncoder(os.Stdout).Encode(askAll())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// block is what bodies are made of.
const block = "HTTP/1.1 200 OK\r\nServer: some-server/1.0.0\r\nDate: Tue, 01 Dec 2026 10:00:00 GMT\r\nConnection: keep-alive\r\n\r\n" +
	"GET / HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive\r\n\r\n"

// large is some megabytes of blocks, large enough that TCP cuts it in pieces.
var large = bytes.Repeat([]byte(block), 8_000_000/len(block))

// filler is so many bytes of blocks, no more than large has.
func filler(size int) []byte { return large[:size] }
