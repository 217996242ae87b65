# The output of the benchmarks in speed_test.go as tables: the best of the runs for each.
/^Benchmark/ {
	sub(/-[0-9]+$/, "", $1)
	n = split($1, p, "/")
	if (n != 5) next
	row = p[2] ": " p[3] ", QoS " substr(p[4], 2); who = p[5]
	if (p[3] == "idle") row = "idle"
	if (!(row in rows)) { rows[row] = ++count; order[count] = row }
	if (!(who in seen)) { seen[who] = ++libraries; library[libraries] = who }
	for (i = 3; i < NF; i += 2) {
		key = row SUBSEP who SUBSEP $(i + 1)
		better = !(key in best) || ($(i + 1) == "msgs/s" ? $i + 0 > best[key] : $i + 0 < best[key])
		if (better) best[key] = $i + 0
	}
}

function table(title, unit, places, idle,    r, w, line, sep) {
	print "\n**" title "**\n"
	line = "| |"; sep = "| --- |"
	for (w = 1; w <= libraries; w++) { line = line " " library[w] " |"; sep = sep " ---: |" }
	print line; print sep
	for (r = 1; r <= count; r++) {
		if ((order[r] == "idle") != idle) continue
		split(unit, units, " ")
		for (u = 1; u in units; u++) {
			line = "| " (idle ? units[u] : order[r]) " |"
			for (w = 1; w <= libraries; w++)
				line = line " " sprintf("%." places "f", best[order[r], library[w], units[u]]) " |"
			print line
		}
	}
}

END {
	table("Messages a second", "msgs/s", 0, 0)
	table("Processor time of the client, ns a message", "cpu-ns/op", 0, 0)
	table("Allocations a message", "allocs/op", 0, 0)
	table("A connected idle client", "heap-B stack-B goroutines", 0, 1)
}
