package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	bodyMax    = 64 << 10
	pendingMax = 16384 // publishes that wait for their acknowledgement
)

type event struct {
	Key     string          `json:"idempotencyKey"`
	Type    string          `json:"eventType"`
	Payload json.RawMessage `json:"payload"`
}

// accept answers POST /events with 202 when JetStream has acknowledged the
// event, and with 503 where it has not. The same key is the same message, which
// the stream recognises for as long as its duplicate window is.
func accept() (string, http.HandlerFunc, error) {
	connection, err := nats.Connect(os.Getenv("NATS_URL"),
		nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		return "", nil, err
	}
	stream, err := jetstream.New(connection,
		jetstream.WithPublishAsyncMaxPending(pendingMax),
		jetstream.WithPublishAsyncTimeout(5*time.Second))
	if err != nil {
		return "", nil, err
	}
	return "POST /events", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
		if err != nil {
			http.Error(w, "no whole body", http.StatusBadRequest)
			return
		}
		var found event
		if err := json.Unmarshal(body, &found); err != nil ||
			found.Key == "" || found.Type == "" || found.Payload == nil {
			http.Error(w, "no event", http.StatusBadRequest)
			return
		}
		id := operationID(found.Key)
		ack, err := stream.PublishMsgAsync(&nats.Msg{
			Subject: subjectOf(id),
			Data:    body,
			Header:  nats.Header{nats.MsgIdHdr: {id}},
		})
		if err == nil {
			select {
			case <-ack.Ok():
			case err = <-ack.Err():
			}
		}
		if err != nil {
			log.Print(err)
			w.Header().Set("Retry-After", "1")
			http.Error(w, "not accepted", http.StatusServiceUnavailable)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "application/json")
		header.Set("Location", "/events/status/"+id)
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, `{"operationId":"%s","status":"accepted"}`, id)
	}, nil
}

// subjectOf spreads events over two streams by a digit of their id.
func subjectOf(id string) string {
	if id[len(id)-1]&1 == 0 {
		return os.Getenv("SUBJECT") + ".0"
	}
	return os.Getenv("SUBJECT") + ".1"
}

// operationID is the same for the same key, in the form of a UUID, version 8.
func operationID(key string) string {
	sum := sha256.Sum256([]byte("default\x00/events\x00" + key))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x",
		sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
