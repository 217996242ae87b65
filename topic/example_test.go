package topic_test

import (
	"errors"
	"fmt"

	"github.com/myelin-mqtt/myelin/topic"
)

func ExampleParseFilter() {
	f, err := topic.ParseFilter("$share/workers/jobs/+")
	fmt.Println(f.Share, f.Filter, f.Wildcard(), err)

	_, err = topic.ParseFilter("jobs/#/done")
	fmt.Println(err, errors.Is(err, topic.ErrMultiLevel))
	// Output:
	// workers jobs/+ true <nil>
	// parse filter: # is not alone in the last level of the filter true
}

func ExampleMatch() {
	fmt.Println(topic.Match("sport/#", "sport"))
	fmt.Println(topic.Match("sport/+", "sport"))
	fmt.Println(topic.Match("#", "$SYS/uptime"))
	// Output:
	// true
	// false
	// false
}

func ExampleTree_Matching() {
	var rules topic.Tree[string]
	rules.Set("home/#", "read")
	rules.Set("home/+/door", "write")
	rules.Set("garden/#", "nothing")
	for filter, right := range rules.Matching("home/hall/light") {
		fmt.Println(filter, right)
	}
	// Output: home/# read
}

func ExampleLevels() {
	for level := range topic.Levels("a//b") {
		fmt.Printf("%q ", level)
	}
	// Output: "a" "" "b"
}
