// A publisher and watcher with Go's net/http: posts the lines of a file in all forms and every batch twice, checks the answers,
// and reads them back as NDJSON and as Server-Sent Events. Arguments: the daemon's URL, the file.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"regexp"
	"strings"
)

const (
	ndjson   = "application/x-ndjson"
	jsonType = "application/json"
	batch    = 500
)

type answer struct {
	Accepted     int
	Refused      []struct{ Code string }
	RefusedTotal int `json:"refused_total"`
	AcceptedLine int `json:"accepted_line"`
	Error        string
}

func post(url, contentType string, body io.Reader, fields map[string]string) (int, answer) {
	request, err := http.NewRequest(http.MethodPost, url+"/api/v1/events", body)
	check(err)
	request.Header.Set("Content-Type", contentType)
	for name, value := range fields {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	check(err)
	defer response.Body.Close()
	var said answer
	check(json.NewDecoder(response.Body).Decode(&said))
	_, err = io.Copy(io.Discard, response.Body)
	check(err)
	return response.StatusCode, said
}

// Gathers count events; it is connected when it returns.
func watch(url, accept string, count int) chan []string {
	request, err := http.NewRequest(http.MethodGet, url+"/api/ws/events", nil)
	check(err)
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	check(err)
	if response.StatusCode != http.StatusOK {
		log.Fatalf("%s: %s", accept, response.Status)
	}
	event := regexp.MustCompile(`^(?:data: )?\{"stream_seq":[0-9]+,(.*)$`)
	found := make(chan []string)
	go func() {
		var events []string
		lines := bufio.NewReader(response.Body)
		for len(events) < count {
			line, err := lines.ReadString('\n')
			check(err)
			if parts := event.FindStringSubmatch(strings.TrimSuffix(line, "\n")); parts != nil {
				events = append(events, "{"+parts[1])
			}
		}
		found <- events
	}()
	return found
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	log.SetFlags(log.Lshortfile)
	url := os.Args[1]
	text, err := os.ReadFile(os.Args[2])
	check(err)
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	watchers := []chan []string{watch(url, ndjson, len(lines)), watch(url, "text/event-stream", len(lines))}
	for start := 0; start < len(lines); start += batch {
		part := lines[start:min(start+batch, len(lines))]
		named := map[string]string{"Luxcast-Publisher": "go-poster", "Luxcast-Line": fmt.Sprint(start + 1)}
		// The second time as after an answer that was lost.
		for time := 0; time < 2; time++ {
			contentType, body := ndjson, io.Reader(strings.NewReader(strings.Join(part, "\n")))
			switch start / batch % 3 {
			case 1:
				// Of no known length: chunked.
				body = io.MultiReader(strings.NewReader(part[0]+"\n"), strings.NewReader(strings.Join(part[1:], "\n")))
			case 2:
				contentType, body = jsonType, bytes.NewReader([]byte("["+strings.Join(part, ",")+"]"))
			}
			status, said := post(url, contentType, body, named)
			if status != 200 || said.Accepted != len(part) || said.RefusedTotal != 0 || said.AcceptedLine != start+len(part) {
				log.Fatalf("%d %+v", status, said)
			}
		}
	}
	if status, said := post(url, ndjson, strings.NewReader("nope\n"), nil); status != 422 || said.Refused[0].Code != "bad_json" {
		log.Fatalf("%d %+v", status, said)
	}
	if status, said := post(url, "text/plain", strings.NewReader("{}"), nil); status != 415 || said.Error != "unsupported_media_type" {
		log.Fatalf("%d %+v", status, said)
	}
	for _, watcher := range watchers {
		for place, event := range <-watcher {
			if event != lines[place] {
				log.Fatalf("%s instead of %s", event, lines[place])
			}
		}
	}
	fmt.Printf("posted %d\n", len(lines))
}
