// Package remotetest checks that something keeps the contract of package remote.
//
// Run is the conformance suite that every adapter, decorator and layer passes.
// Honest differences between backends come from their Caps and from the few knobs
// of Target; there are no forks. RunModel throws random operations at a backend and
// compares it with a map. Faulty is a backend whose calls fail by plan, Proxy a TCP
// proxy that breaks connections, both for tests of everything above.
//
// The checks of a suite run one after the other and count goroutines, so a test that
// calls Run must not run in parallel with others.
package remotetest
