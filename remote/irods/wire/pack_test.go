package wire

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// awkward are texts that survive only in a codec of our own.
var awkward = []string{
	"", " ", "a b", "\r", "\n", "\r\n", "\t", "\x01", "\x1f\x7f", "\xff\xfe", "ä😀\xc3", "&", "&&amp;", "&amp;lt;",
	"<", ">", "]]>", "<a/>", "</objPath>", "<!--", "'", `"`, "`", "&#39;", "&apos", "é\u2028", "\ufffd", strings.Repeat("x", 3000),
}

// fill sets every field of v to something that can be recognised.
func fill(v reflect.Value, text func() string, n *int) {
	switch v.Kind() {
	case reflect.Pointer:
		fill(v.Elem(), text, n)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), text, n)
			}
		}
	case reflect.String:
		v.SetString(text())
	case reflect.Int, reflect.Int64:
		*n++
		v.SetInt(int64(*n%3-1) * int64(1<<(*n%31)))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), text, n)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(text() + "\x00"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(v.Index(i), text, n)
		}
	}
}

// square makes the numbers of an answer fit its lists.
func square(m Message) {
	out, ok := m.(*GenQueryOut)
	if bulk, is := m.(*BulkOprInp); is {
		out, ok = &bulk.Attrs, true
	}
	if !ok {
		return
	}
	out.Rows, out.Attrs = 3, len(out.Results)
	for i := range out.Results {
		out.Results[i].Width = 64
		out.Results[i].Column = 400 + i
	}
}

// TestRoundTrip packs every message with awkward texts and numbers and unpacks it, in
// both styles.
func TestRoundTrip(t *testing.T) {
	for _, m := range allMessages() {
		n, i := 0, 0
		text := func() string { i++; return awkward[i%len(awkward)] }
		for range awkward {
			fill(reflect.ValueOf(m), text, &n)
			square(m)
			for _, lines := range []bool{false, true} {
				got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message)
				if err := Unpack(appendMessage(nil, m, lines), got); err != nil {
					t.Fatalf("%s: %v", m.pi(), err)
				}
				if !reflect.DeepEqual(got, m) {
					t.Fatalf("%s: got %+v, want %+v", m.pi(), got, m)
				}
			}
		}
	}
}

// TestAnyName sends random bytes through a path, a keyword's value and a column.
func TestAnyName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOf(rapid.ByteRange(1, 255)).Draw(t, "name")
		name := string(raw)
		in := DataObjInp{Path: name, Cond: KeyValPair{{name, name}}}
		var got DataObjInp
		if err := Unpack(Append(nil, &in), &got); err != nil || got.Path != name || got.Cond[0].Value != name {
			t.Fatalf("%q, %v", got.Path, err)
		}
		out := GenQueryOut{Rows: 1, Attrs: 1, Results: []SQLResult{{Column: ColDataName, Values: []string{name}}}}
		var back GenQueryOut
		if err := Unpack(AppendLines(nil, &out), &back); err != nil || back.Value(ColDataName, 0) != name {
			t.Fatalf("%+v, %v", back.Results, err)
		}
		if w := back.Results[0].Width; w <= len(name) {
			t.Fatalf("width %d for %d bytes", w, len(name))
		}
	})
}

func TestEscape(t *testing.T) {
	const raw, packed = `a&b<c>d"e'f` + "`\r\n\x01", "a&amp;b&lt;c&gt;d&quot;e&apos;f`\r\n\x01"
	if got := string(Escape(nil, raw)); got != packed {
		t.Errorf("escaped %q", got)
	}
	if got := Unescape(packed); got != raw {
		t.Errorf("unescaped %q", got)
	}
	for _, text := range []string{"&", "a&b", "&nbsp;", "&#39;", "&lt", "&AMP;", "&&&"} {
		if got := Unescape(text); got != text {
			t.Errorf("Unescape(%q) = %q", text, got)
		}
	}
}

// TestTolerance reads what others may write differently.
func TestTolerance(t *testing.T) {
	for name, packed := range map[string]string{
		"plain":    "<CollInpNew_PI><collName>/z</collName><flags>1</flags><oprType>2</oprType><KeyValPair_PI><ssLen>0</ssLen></KeyValPair_PI></CollInpNew_PI>",
		"spaces":   " <CollInpNew_PI>\r\n\t<collName>/z</collName> <flags> 1 </flags>\n<oprType>\n2</oprType><KeyValPair_PI> <ssLen>0</ssLen></KeyValPair_PI> </CollInpNew_PI>\n\x00",
		"prologue": "<?xml version='1.0'?><!-- c --><CollInpNew_PI><collName>/z</collName><flags>1</flags><oprType>2</oprType><KeyValPair_PI><ssLen>0</ssLen></KeyValPair_PI></CollInpNew_PI>",
		"unknown":  "<CollInpNew_PI><x/><y><y>1</y><z/></y><collName>/z</collName><flags>1</flags><oprType>2</oprType><KeyValPair_PI><ssLen>0</ssLen><n>1</n></KeyValPair_PI><SpecColl_PI><type>3</type></SpecColl_PI></CollInpNew_PI>",
	} {
		var got CollInp
		if err := Unpack([]byte(packed), &got); err != nil || !reflect.DeepEqual(got, CollInp{"/z", 1, 2, nil}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	var s STR
	if err := Unpack([]byte("<STR_PI><myStr/></STR_PI>"), &s); err != nil || s.Text != "" {
		t.Errorf("empty element: %q, %v", s.Text, err)
	}
}

// TestLenience reads, as a server, what the Python client sends: without reconnFlag.
func TestLenience(t *testing.T) {
	const packed = "<StartupPack_PI><irodsProt>1</irodsProt><connectCnt>0</connectCnt><proxyUser>u</proxyUser>" +
		"<proxyRcatZone>z</proxyRcatZone><clientUser>u</clientUser><clientRcatZone>z</clientRcatZone>" +
		"<relVersion>rods4.3.0</relVersion><apiVersion>d</apiVersion><option></option></StartupPack_PI>"
	var m StartupPack
	if err := unpackRequest([]byte(packed), &m); err != nil || m.Protocol != 1 || m.ClientZone != "z" {
		t.Errorf("%+v, %v", m, err)
	}
	if err := Unpack([]byte(packed), &m); err == nil {
		t.Error("a client takes it too")
	}
	var args TicketAdminInp
	if err := unpackRequest([]byte("<ticketAdminInp_PI><arg1>a</arg1><arg3>c</arg3></ticketAdminInp_PI>"), &args); err != nil || args.Args[0] != "a" || args.Args[2] != "c" {
		t.Errorf("%+v, %v", args, err)
	}
	for name, packed := range map[string]string{
		"string":    "<StartupPack_PI><irodsProt>1</irodsProt></StartupPack_PI>",
		"structure": "<StartupPack_PI>",
	} {
		if err := unpackRequest([]byte(packed), &m); !errors.Is(err, ErrPacking) {
			t.Errorf("%s missing: %v", name, err)
		}
	}
}

// TestStrictness wants an error, not zeros, from what is incomplete or hostile.
func TestStrictness(t *testing.T) {
	for name, c := range map[string]struct {
		m      Message
		packed string
	}{
		"empty":          {&STR{}, ""},
		"other message":  {&STR{}, "<INT_PI><myInt>1</myInt></INT_PI>"},
		"missing field":  {&INT{}, "<INT_PI></INT_PI>"},
		"no end":         {&STR{}, "<STR_PI><myStr>a"},
		"no outer end":   {&STR{}, "<STR_PI><myStr>a</myStr>"},
		"crossed":        {&STR{}, "<STR_PI><myStr>a</myStr></INT_PI>"},
		"not a number":   {&INT{}, "<INT_PI><myInt>1x</myInt></INT_PI>"},
		"too large":      {&INT{}, "<INT_PI><myInt>4294967296</myInt></INT_PI>"},
		"negative count": {&KeyValPair{}, "<KeyValPair_PI><ssLen>-1</ssLen></KeyValPair_PI>"},
		"huge count":     {&KeyValPair{}, "<KeyValPair_PI><ssLen>2147483647</ssLen></KeyValPair_PI>"},
		"short list":     {&KeyValPair{}, "<KeyValPair_PI><ssLen>2</ssLen><keyWord>a</keyWord><svalue>b</svalue></KeyValPair_PI>"},
		"not base64":     {&BinBytesBuf{}, "<BinBytesBuf_PI><buflen>1</buflen><buf>!</buf></BinBytesBuf_PI>"},
		"wrong length":   {&BinBytesBuf{}, "<BinBytesBuf_PI><buflen>7</buflen><buf>YQ==</buf></BinBytesBuf_PI>"},
		"many rows":      {&GenQueryOut{}, "<GenQueryOut_PI><rowCnt>2000000000</rowCnt><attriCnt>1</attriCnt><continueInx>0</continueInx><totalRowCount>0</totalRowCount><SqlResult_PI><attriInx>1</attriInx><reslen>9</reslen></SqlResult_PI></GenQueryOut_PI>"},
		"many columns":   {&GenQueryOut{}, "<GenQueryOut_PI><rowCnt>0</rowCnt><attriCnt>51</attriCnt><continueInx>0</continueInx><totalRowCount>0</totalRowCount></GenQueryOut_PI>"},
	} {
		if err := Unpack([]byte(c.packed), c.m); !errors.Is(err, ErrPacking) {
			t.Errorf("%s: %v, got %+v", name, err, c.m)
		}
	}
}

// TestFiftyColumns checks the rule that an answer always has 50 columns.
func TestFiftyColumns(t *testing.T) {
	m := &GenQueryOut{Rows: 1, Attrs: 1, Results: []SQLResult{{Column: 403, Values: []string{"x"}}}}
	for _, packed := range [][]byte{Append(nil, m), Append(nil, &GenQueryOut{}), Append(nil, &BulkOprInp{Attrs: *m})} {
		if n := strings.Count(string(packed), "<SqlResult_PI>"); n != 50 {
			t.Errorf("%d columns", n)
		}
	}
}

func TestKeyValPair(t *testing.T) {
	var kv KeyValPair
	kv.Set(KwForce, "")
	kv.Set(KwRescName, "a")
	kv.Set(KwRescName, "b")
	value, ok := kv.Get(KwRescName)
	if !kv.Has(KwForce) || kv.Has(KwAdmin) || value != "b" || !ok || len(kv) != 2 {
		t.Errorf("%v", kv)
	}
}

func TestQueryBuilder(t *testing.T) {
	q := (&GenQueryInp{MaxRows: 5}).Select(ColDataName, ColDataSize).Where(ColCollName, Equal("/z/it's")).Where(ColDataName, Like("a%"))
	want := []Where{{ColCollName, "= '/z/it's'"}, {ColDataName, "like 'a%'"}}
	if !reflect.DeepEqual(q.Wheres, want) || len(q.Selects) != 2 || q.Selects[1] != (Select{ColDataSize, 1}) {
		t.Errorf("%+v", q)
	}
}
