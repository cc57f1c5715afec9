// Command service answers GET /prices/{key} with a document straight from
// Redis or from Postgres, or POST /events by publishing to JetStream (events.go).
//
// What a careful author writes in front of the same servers that Hotpath has:
// net/http, and rueidis (which pipelines what goroutines ask for at the same
// time) or pgx (which prepares a statement when it first sees it).
// Environment: PORT, SOURCE=redis|postgres|nats, REDIS_ADDRESS, PG*, NATS_URL,
// GOMAXPROCS.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
)

const (
	deadline  = time.Second
	poolSize  = "16"
	statement = `
		SELECT version, document, modified_at, deleted FROM hotpath.prices
		WHERE tenant = $1 AND key = $2`
)

type document struct {
	version  string
	modified time.Time
	body     []byte
}

var errNotFound = errors.New("no such document")

// A source finds the document of a key, or says errNotFound.
type source func(ctx context.Context, key string) (document, error)

func redisSource() (source, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress:  []string{os.Getenv("REDIS_ADDRESS")},
		DisableCache: true, // the server's answers, not copies of them
	})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, key string) (document, error) {
		record, err := client.Do(ctx, client.B().Get().
			Key("hotpath:doc:prices:default:"+key).Build()).AsBytes()
		if rueidis.IsRedisNil(err) {
			return document{}, errNotFound
		}
		if err != nil {
			return document{}, err
		}
		return parse(record)
	}, nil
}

// parse reads the record of schemas/framing.md, without its length.
func parse(record []byte) (document, error) {
	if len(record) < 32 || string(record[:3]) != "HPD" {
		return document{}, errors.New("not a document record")
	}
	if record[3]&1 != 0 {
		return document{}, errNotFound
	}
	texts := 32 + int(binary.LittleEndian.Uint16(record[28:])) +
		int(binary.LittleEndian.Uint16(record[30:]))
	if len(record) < texts {
		return document{}, errors.New("not a document record")
	}
	return document{
		version: string(record[4:20]),
		modified: time.UnixMicro(
			int64(binary.LittleEndian.Uint64(record[20:]))),
		body: record[texts:],
	}, nil
}

func postgresSource(ctx context.Context) (source, error) {
	pool, err := pgxpool.New(ctx, "pool_max_conns="+poolSize)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, key string) (document, error) {
		var found document
		var version int64
		var deleted bool
		err := pool.QueryRow(ctx, statement, "default", key).
			Scan(&version, &found.body, &found.modified, &deleted)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && deleted {
			return document{}, errNotFound
		}
		if err != nil {
			return document{}, err
		}
		found.version = fmt.Sprintf("%016x", version)
		return found, nil
	}, nil
}

func handler(find source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), deadline)
		defer cancel()
		found, err := find(ctx, r.PathValue("key"))
		if errors.Is(err, errNotFound) {
			http.NotFound(w, r)
			return
		}
		if err != nil {
			log.Print(err)
			http.Error(w, "no answer from the source",
				http.StatusServiceUnavailable)
			return
		}
		header := w.Header()
		header.Set("Content-Type", "application/json")
		header.Set("Content-Length", strconv.Itoa(len(found.body)))
		header.Set("Cache-Control", "max-age=60")
		header.Set("ETag", `"`+found.version+`"`)
		header.Set("Last-Modified",
			found.modified.UTC().Format(http.TimeFormat))
		_, _ = w.Write(found.body) // fails only where the client has left
	}
}

// look answers GET /prices/{key}.
func look(find source, err error) (string, http.HandlerFunc, error) {
	return "GET /prices/{key}", handler(find), err
}

func main() {
	var pattern string
	var answer http.HandlerFunc
	var err error
	switch name := os.Getenv("SOURCE"); name {
	case "redis":
		pattern, answer, err = look(redisSource())
	case "postgres":
		pattern, answer, err = look(postgresSource(context.Background()))
	case "nats":
		pattern, answer, err = accept()
	default:
		err = fmt.Errorf("SOURCE=%s is none of redis, postgres, nats", name)
	}
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(pattern, answer)
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), mux))
}
