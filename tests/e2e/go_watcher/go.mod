module luxcast/go_watcher

go 1.21

require github.com/gorilla/websocket v1.5.0

// Debian's package golang-github-gorilla-websocket-dev, which needs no module proxy.
replace github.com/gorilla/websocket => /usr/share/gocode/src/github.com/gorilla/websocket
