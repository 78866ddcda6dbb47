// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

var (
	cronPattern = regexp.MustCompile(
		`^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[^\s@=]+( +[^\s@=]+){4})$`)
	cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

	// cronReference is where the search for a time of a schedule begins: whether
	// there is any must not depend on when it is asked.
	cronReference = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

	// cronRange is one of the parts of a field that stand between commas.
	cronRange = regexp.MustCompile(`^(?:[*?]|([0-9A-Za-z]+)(?:-([0-9A-Za-z]+))?)(?:/([0-9]+))?$`)
)

// cronFields are the fields of a schedule in the order in which they are written.
var cronFields = [...]cronField{
	{name: "minute", least: 0, most: 59},
	{name: "hour", least: 0, most: 23},
	{name: "day of month", least: 1, most: 31},
	{name: "month", least: 1, most: 12, names: []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}},
	{name: "day of week", least: 0, most: 6, names: []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}},
}

// cronField is what may stand in one field. Package cron accepts more, but makes
// something else of it than it says.
type cronField struct {
	name        string
	least, most int
	// names of the values from least on, if they have some.
	names []string
}

// cron checks the times of a schedule.
func (c *compiler) cron(at path, expression string) {
	const form = "must be five fields, such as */5 * * * *, or one of @yearly, @monthly, @weekly, @daily and @hourly"
	if len(expression) > maxCron || !cronPattern.MatchString(expression) {
		c.invalid(at, form)
		return
	}
	if fields := strings.Fields(expression); len(fields) == len(cronFields) {
		for i := range cronFields {
			if f := &cronFields[i]; !f.accepts(fields[i]) {
				c.invalid(at, "the "+f.name+" must be "+f.allowed())
				return
			}
		}
	}
	times, err := cronParser.Parse(expression)
	switch {
	case err != nil:
		c.invalid(at, form)
	case times.Next(cronReference).IsZero():
		c.invalid(at, "names a day that never comes")
	}
}

// accepts reports whether a text is a list of ranges of the field.
func (f *cronField) accepts(text string) bool {
	for part := range strings.SplitSeq(text, ",") {
		found := cronRange.FindStringSubmatch(part)
		if found == nil {
			return false
		}
		first, last, step := found[1], found[2], found[3]
		if first != "" {
			from, ok := f.value(first)
			if !ok {
				return false
			}
			if to, ok := f.value(last); last != "" && (!ok || to < from) {
				return false
			}
		}
		if step == "" {
			continue
		}
		// A longer one would be a way to write one value.
		if n, err := strconv.Atoi(step); err != nil || n < 1 || n > f.size() {
			return false
		}
	}
	return true
}

// value reads a number or a name.
func (f *cronField) value(text string) (int, bool) {
	if i := slices.Index(f.names, strings.ToUpper(text)); i >= 0 {
		return f.least + i, true
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= f.least && n <= f.most
}

func (f *cronField) size() int { return f.most - f.least + 1 }

// allowed says what may stand in the field.
func (f *cronField) allowed() string {
	values := fmt.Sprintf("%d to %d", f.least, f.most)
	if f.names != nil {
		values += fmt.Sprintf(" or %s to %s", f.names[0], f.names[len(f.names)-1])
	}
	return fmt.Sprintf("*, values of %s, ranges such as %d-%d, and steps of 1 to %d such as */2, with commas between them",
		values, f.least+1, f.least+3, f.size())
}
