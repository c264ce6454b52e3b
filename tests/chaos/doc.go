// Package chaos breaks the runtime for real, as a process of its own on a real bus and
// a real engine, and checks that its promises hold: every acknowledged command ends in
// exactly one result, nothing is left twice or astray, what runs is not disturbed.
//
// All of it needs the build tag integration.
package chaos
