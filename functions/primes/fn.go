// How many primes are there below a limit? The body names it; 10000 if empty.
// The sieve of Eratosthenes: what is unmarked when its turn comes is a prime.
//
// The platform writes the main function beside it. Without the platform:
//
//	echo 'package main; import "fmt"
//	func main() { fmt.Println(fn("100", nil)) }' > try.go
//	go run fn.go try.go; rm try.go
package main

import (
	"fmt"
	"strconv"
	"strings"
)

const most = 10_000_000 // one byte each: a small machine has that to spare

func fn(data string, headers map[string]string) (string, error) {
	data = strings.TrimSpace(data)
	if data == "" {
		data = "10000"
	}
	limit, err := strconv.Atoi(data)
	if err != nil || limit < 0 || limit > most {
		return "", fmt.Errorf("%.20q is no limit: use 0 to %d", data, most)
	}
	found := countPrimes(limit)
	return fmt.Sprintf("Found %d primes under %d\n", found, limit), nil
}

func countPrimes(limit int) int {
	marked, found := make([]bool, limit), 0
	for n := 2; n < limit; n++ {
		if !marked[n] {
			found++
			for multiple := n * n; multiple < limit; multiple += n {
				marked[multiple] = true
			}
		}
	}
	return found
}
