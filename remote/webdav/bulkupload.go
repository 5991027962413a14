package webdav

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Bulk upload of Nextcloud: POST /remote.php/dav/bulk takes many files as the parts of one
// multipart/related body, stores them one after the other and answers with what became of
// each. It has no conditions and replaces what is there, so that a look comes before:
// a file that somebody else makes between that look and the end of the request is
// replaced, and only its version history, if the server keeps one, still has it. That is
// remote.GuardLook, where a PUT has GuardAtomic (Caps.Create is about Put), and why it must be
// asked for (Options.Bulk).
//
// A wrong checksum ends the request with 400, and so does anything that cannot be read;
// the parts before it are stored, those after it are not. A part that fails for itself is
// an error within the 200. Whatever is not said to be stored is looked at, and goes by PUT
// if nothing is there: that tells what is wrong with it. If something is there, nobody can
// say whose it is, and the error is Unsure.

// Bounds of one bulk upload.
const (
	bulkFiles = 100     // to begin with
	bulkMost  = 500     // once it is seen to be quick
	bulkLeast = 10      // fewer are not worth it
	bulkBytes = 8 << 20 // in memory, because each checksum goes before its file
	bulkTurns = 2       // at a time: the server locks what it writes
)

// So many seconds for a request are good, or too many: proxies give up after a minute.
const (
	bulkQuick = 2 * time.Second
	bulkSlow  = 10 * time.Second
	bulkWork  = 10 * time.Minute // how long the server may be at work in silence
)

// bulkFaults is how many answers that make no sense it takes to give it up.
const bulkFaults = 3

// bulkPlan says how bulk upload is done here.
type bulkPlan struct {
	url   string        // "" for not at all
	base  string        // path of the root below the user's files, without trailing slash
	turns chan struct{} // held by each request

	files, bytes atomic.Int64 // most of one request; no files: given up
	faults       atomic.Int32
	proved       atomic.Bool // it has worked
}

// on tells whether bulk upload can be had, as far as is known.
func (p *bulkPlan) on() bool { return p.url != "" && p.files.Load() > 0 }

// giveUp ends bulk upload for good.
func (p *bulkPlan) giveUp() { p.files.Store(0) }

// fault takes note of an answer that makes no sense.
func (p *bulkPlan) fault() {
	if p.faults.Add(1) >= bulkFaults {
		p.giveUp()
	}
}

// tooLarge takes note of a body that was refused for its size.
func (p *bulkPlan) tooLarge(size int) {
	if size < 2*bulkLeast<<10 {
		p.giveUp()
		return
	}
	p.bytes.Store(min(p.bytes.Load(), int64(size/2)))
}

// pace takes note of how long a request of n files took.
func (p *bulkPlan) pace(n int, took time.Duration) {
	now := p.files.Load()
	switch {
	case now == 0:
	case took > bulkSlow:
		p.files.CompareAndSwap(now, max(bulkLeast, min(now, int64(n))/2))
	case took < bulkQuick && int64(n) >= now:
		p.files.CompareAndSwap(now, min(bulkMost, 2*now))
	}
}

// planBulk finds out whether there is bulk upload, if it is wanted. It is for a user's own
// files only.
func (b *Backend) planBulk(caps *capabilities) {
	at := installation(b.dir)
	rest := strings.TrimPrefix(b.dir, at)
	owner, ok := firstName(rest, "/remote.php/dav/files/")
	if !b.opts.Bulk || !ok || caps.Capabilities.DAV.Bulk != "1.0" || b.info.UserID != "" && b.info.UserID != owner {
		return
	}
	p := &b.bulk
	p.url = b.opts.URL.Scheme + "://" + b.opts.URL.Host + escape(at) + "/remote.php/dav/bulk"
	p.base = strings.TrimPrefix(rest, "/remote.php/dav/files/"+owner)
	p.turns = make(chan struct{}, bulkTurns)
	p.files.Store(bulkFiles)
	p.bytes.Store(bulkBytes)
}

// bulkable tells whether a file can go by bulk upload: the server cuts blanks off the end
// of the path, takes its headers line by line, and sees no more in it than its names.
func (m *member) bulkable() bool {
	path := m.c.b.bulk.base + m.path
	return m.src.Size() <= m.c.b.bulk.bytes.Load()/2 && strings.TrimRight(path, " ") == path &&
		!hasControl(path) && !strings.Contains(path, `\`) && isNFC(path)
}

// bulkUpload stores by bulk upload what it can. What is left over goes by PUT.
func (r *batch) bulkUpload(ctx context.Context) {
	some := r.bulkFree(ctx)
	var wg sync.WaitGroup
	for len(some) >= fewLooks && r.b.bulk.on() {
		n := r.b.bulk.share(some)
		now := some[:n]
		some = some[n:]
		wg.Go(func() { r.bulkTurn(ctx, now) })
	}
	wg.Wait()
	r.bulkSettle(ctx)
}

// bulkFree finds those that can go by bulk upload and whose places are free, and gives
// their results to those whose places are not.
func (r *batch) bulkFree(ctx context.Context) []*member {
	var some, free []*member
	for _, m := range r.at(pending) {
		if m.bulkable() {
			some = append(some, m)
		}
	}
	if len(some) < fewLooks {
		return nil
	}
	r.look(ctx, some)
	for _, m := range some {
		switch {
		case m.seen != nil:
			m.fail(m.c.fail(remote.Exist, nil))
		case m.orphan || remote.KindOf(m.seenErr) != remote.NotExist:
			r.note(m.seenErr)
			m.fail(m.seenErr)
		default:
			free = append(free, m)
		}
	}
	return free
}

// share returns how many go in the next request.
func (p *bulkPlan) share(some []*member) int {
	n, bytes := 0, int64(0)
	for n < len(some) && n < int(max(1, p.files.Load())) && (n == 0 || bytes+some[n].src.Size() <= p.bytes.Load()) {
		bytes += some[n].src.Size()
		n++
	}
	return n
}

// bulkTurn makes one request when it is its turn.
func (r *batch) bulkTurn(ctx context.Context, some []*member) {
	p := &r.b.bulk
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
	}
	if !p.on() {
		return
	}
	body, some := r.bulkBody(ctx, some)
	r.b.buffered.Add(int64(len(body.data)))
	defer r.b.buffered.Add(-int64(len(body.data)))
	if len(some) > 0 {
		r.bulkSend(ctx, body, some)
	}
}

// bulkBody is the body of a bulk upload. It knows whether anything of it was read, which
// is when the server may have begun to store: it does not wait for the end.
type bulkBody struct {
	data     []byte
	boundary string
	begun    atomic.Bool
}

// Size implements remote.Source.
func (s *bulkBody) Size() int64 { return int64(len(s.data)) }

// Open implements remote.Source.
func (s *bulkBody) Open() (io.ReadCloser, error) {
	return io.NopCloser(&bulkBodyReader{s, bytes.NewReader(s.data)}), nil
}

type bulkBodyReader struct {
	s *bulkBody
	r *bytes.Reader
}

// Read implements io.Reader.
func (r *bulkBodyReader) Read(p []byte) (int, error) {
	r.s.begun.Store(true)
	return r.r.Read(p)
}

// bulkBody reads the sources into a body. Those that fail are left out.
func (r *batch) bulkBody(ctx context.Context, some []*member) (*bulkBody, []*member) {
	body := &bulkBody{boundary: "meshmount-" + rand.Text()}
	var buf bytes.Buffer
	var kept []*member
	for _, m := range some {
		if err := r.stopped(ctx, m); err != nil {
			m.fail(err)
			continue
		}
		data, err := readSource(m.src)
		if err != nil {
			m.fail(m.c.sourceError(ctx, err))
			continue
		}
		remote.Progress(ctx)
		m.bulkPart(&buf, body.boundary, data)
		kept = append(kept, m)
	}
	buf.WriteString("--" + body.boundary + "--\r\n")
	body.data = buf.Bytes()
	return body, kept
}

// readSource reads the whole of a source, which must be of its size.
func readSource(src remote.Source) ([]byte, error) {
	r, err := src.Open()
	if err != nil {
		return nil, err
	}
	data := make([]byte, src.Size())
	n, err := io.ReadFull(r, data)
	switch {
	case err == io.EOF && n == len(data), err == nil:
		err = atEnd(r)
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		err = errShort
	}
	return data, errors.Join(err, r.Close())
}

// bulkPart writes a file as a part. Servers before Nextcloud 32 want X-File-MD5, and
// those before 24 X-File-Mtime.
func (m *member) bulkPart(buf *bytes.Buffer, boundary string, data []byte) {
	sum := fmt.Sprintf("%x", md5.Sum(data))
	head := "--" + boundary + "\r\nX-File-Path: " + m.c.b.bulk.base + m.path + "\r\nContent-Length: " + strconv.Itoa(len(data)) +
		"\r\nX-File-MD5: " + sum + "\r\nOC-Checksum: md5:" + sum + "\r\n"
	if at := m.timeHeader(); at != "" {
		head += "X-File-Mtime: " + at + "\r\nX-OC-Mtime: " + at + "\r\n"
	}
	buf.WriteString(head + "\r\n")
	buf.Write(data)
	buf.WriteString("\r\n")
}

// bulkSend makes one request and takes up its answer.
func (r *batch) bulkSend(ctx context.Context, body *bulkBody, some []*member) {
	c := &call{b: r.b, op: "put", path: some[0].path}
	q := &request{
		method: http.MethodPost, url: r.b.bulk.url, body: sourceBody(body, nil), changes: true, work: bulkWork,
		header: map[string]string{"Content-Type": "multipart/related; boundary=" + body.boundary},
	}
	if !r.b.bulk.proved.Load() {
		q.header["Expect"] = "100-continue" // a refusal is not lost then
	}
	began := time.Now()
	resp, err := c.send(ctx, q)
	for try := 0; err != nil && !body.begun.Load() && remote.KindOf(err) == remote.Unavailable && try < len(patience) && sleep(ctx, patience[try]); try++ {
		began = time.Now()
		resp, err = c.send(ctx, q)
	}
	if err == nil {
		err = r.bulkAnswer(c, q, resp, some, began)
	}
	if err == nil {
		return
	}
	r.note(err)
	for _, m := range some {
		own := m.c.adapt(err)
		if body.begun.Load() && remote.KindOf(err) != remote.Auth && !pauses(err) {
			own = unsure(own)
		}
		m.fail(own)
	}
}

// pauses tells of an answer that asks to come again later: nothing was done.
func pauses(err error) bool {
	status := statusOf(err)
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

// bulkAnswer takes up an answer. An error is that of all.
func (r *batch) bulkAnswer(c *call, q *request, resp *http.Response, some []*member, began time.Time) error {
	p, status := &r.b.bulk, resp.StatusCode
	if lost(status) || status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		return c.refusal(q, resp)
	}
	defer closeBody(resp)
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxJSON))
	if err != nil {
		return c.fail(remote.Unavailable, err)
	}
	switch {
	case status == http.StatusRequestEntityTooLarge:
		p.tooLarge(int(q.body.size))
		return nil
	case slices.Contains(bulkless, status):
		p.giveUp()
		return nil
	case status > http.StatusBadRequest && status < http.StatusInternalServerError:
		p.fault()
		return nil // what is against these files, if it is them, a PUT shows
	}
	told, ok := readBulk(text)
	if status != http.StatusOK || !ok {
		p.fault()
	} else {
		p.proved.Store(true)
		p.pace(len(some), time.Since(began))
	}
	s := stored{timeSet: true, when: r.b.serverTime(resp.Header), took: time.Since(began)}
	for _, m := range some {
		m.bulkTold(told[p.base+m.path], s)
	}
	return nil
}

// bulkless are the answers of servers that have no bulk upload, or that nobody lets through.
var bulkless = []int{http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
	http.StatusGone, http.StatusLengthRequired, http.StatusUnsupportedMediaType, http.StatusNotImplemented}

// bulkFile is what an answer says of one file.
type bulkFile struct {
	Error       *bool  `json:"error"`
	ETag        string `json:"etag"`
	FileID      string `json:"fileid"`
	Permissions string `json:"permissions"`
}

// readBulk reads an answer. An empty object is an empty list in PHP. What is said of a
// file in another form is nothing.
func readBulk(text []byte) (map[string]bulkFile, bool) {
	if string(bytes.TrimSpace(text)) == "[]" {
		return nil, true
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, false
	}
	told := map[string]bulkFile{}
	for path, one := range all {
		var f bulkFile
		if json.Unmarshal(one, &f) == nil {
			told[path] = f
		}
	}
	return told, true
}

// bulkTold takes up what an answer says of m.
func (m *member) bulkTold(f bulkFile, s stored) {
	m.phase = doubted
	if f.Error == nil || *f.Error {
		return
	}
	m.phase, m.bulk, m.sent = taken, true, s
	m.sent.timeSet = m.timeHeader() != ""
	m.sent.id, m.sent.perms = f.FileID, f.Permissions
	if validTag(f.ETag) {
		m.sent.tag = f.ETag
	}
}

// bulkSettle looks at what bulk uploads may have left.
func (r *batch) bulkSettle(ctx context.Context) {
	doubts := r.at(doubted)
	if len(doubts) == 0 {
		return // lookAtTaken does it together with what goes by PUT
	}
	r.look(ctx, doubts)
	for _, m := range doubts {
		switch {
		case m.seen != nil:
			m.fail(unsure(m.c.failf(remote.Unavailable, "the server does not say whether it has stored this")))
		case remote.KindOf(m.seenErr) == remote.NotExist && !m.orphan:
			m.phase = pending
		default:
			m.fail(unsure(m.c.adapt(m.seenErr)))
		}
	}
}
