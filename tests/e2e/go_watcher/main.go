// A watcher with gorilla/websocket that compresses: writes a line `agreed EXTENSIONS`, then each text message on a line of its own.
// Sends each line of its standard input as a message, compressed, and closes when that ends. Arguments: the URL.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"

	"github.com/gorilla/websocket"
)

func main() {
	dialer := websocket.Dialer{EnableCompression: true}
	socket, response, err := dialer.Dial(os.Args[1], nil)
	check(err)
	fmt.Println("agreed", response.Header.Get("Sec-WebSocket-Extensions"))
	go sendAll(socket)
	out := bufio.NewWriter(os.Stdout)
	for {
		_, message, err := socket.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			return
		}
		check(err)
		out.Write(message)
		out.WriteByte('\n')
		check(out.Flush())
	}
}

func sendAll(socket *websocket.Conn) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		check(socket.WriteMessage(websocket.TextMessage, lines.Bytes()))
	}
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	check(socket.WriteMessage(websocket.CloseMessage, goodbye))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
