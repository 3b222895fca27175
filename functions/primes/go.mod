module main

go 1.18
