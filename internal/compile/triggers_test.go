// Copyright The Headgate Authors.
// SPDX-License-Identifier: Apache-2.0

package compile_test

import (
	"archive/zip"
	"go/build"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	// The names are those of the database that comes with Go.
	_ "time/tzdata"

	. "github.com/onsi/gomega"

	"github.com/headgate-io/headgate/internal/compile"
)

func TestSchedules(t *testing.T) {
	t.Parallel()
	const (
		form  = "must be five fields"
		never = "names a day that never comes"

		minute   = "the minute must be *, values of 0 to 59, ranges such as 1-3, and steps of 1 to 60 such as */2, with commas between them"
		hour     = "the hour must be *, values of 0 to 23, "
		monthDay = "the day of month must be *, values of 1 to 31, "
		month    = "the month must be *, values of 1 to 12 or JAN to DEC, "
		weekDay  = "the day of week must be *, values of 0 to 6 or SUN to SAT, "
	)
	for cron, want := range map[string]string{
		"* * * * *": "", "*/5  0-6/2 1,15 JAN,MAR-may SUN": "", "0 0 29 2 *": "", "59 23 ? * 6": "", "@hourly": "", "@annually": "",
		"*/60 */24 */31 */12 */7": "", "5/10 0 1 jan-3 1-fri,SUN": "",
		"0 0 31 4 *": never, "0 0 30 FEB ?": never,
		"": form, "* * * *": form, "* * * * * *": form, "@every 1s": form, "@reboot": form, "@": form,
		"TZ=Europe/London * * * *": form, "CRON_TZ=UTC 0 0 * * *": form, "TZ=": form, " * * * * *": form, "*\t* * * *": form,
		strings.Repeat("1,", 64) + "1 * * * *": form,
		"60 * * * *":                           minute, "*/0 * * * *": minute, "x * * * *": minute, "99999999999999999999 * * * *": minute,
		"-1 * * * *": minute, "1,2,, * * * *": minute, ",1 * * * *": minute, "+1 * * * *": minute, "*/61 * * * *": minute, "*/+5 * * * *": minute,
		"*-5 * * * *": minute, "1-2-3 * * * *": minute, "1/2/3 * * * *": minute, "1- * * * *": minute, "SUN * * * *": minute,
		"* 24 * * *": hour, "* 5-1 * * *": hour, "* */25 * * *": hour,
		"* * L * *": monthDay, "* * 0 * *": monthDay, "* * 15W * *": monthDay,
		"* * * 13 *": month, "* * * FOO *": month, "* * * MAR-FEB *": month,
		"* * * * 8": weekDay, "* * * * 7": weekDay, "* * * * 5L": weekDay, "* * * * FRI#2": weekDay,
	} {
		g := NewWithT(t)
		in := readWorld(t, "schedule-defaults")
		in.Flows[0].Spec.Triggers.Schedule.Cron = cron
		p, diagnostics := compile.Compile(in.source(in.Flows[0]))
		if want == "" {
			g.Expect(diagnostics).To(BeEmpty(), cron)
			g.Expect(p.Schedule.Cron).To(Equal(cron))
			continue
		}
		g.Expect(diagnostics.Summary()).To(HavePrefix("spec.triggers.schedule.cron: "+want), cron)
	}
}

// zonesOfGo returns the names in the time zone database of the Go that runs.
func zonesOfGo(t *testing.T) []string {
	t.Helper()
	archive, err := zip.OpenReader(filepath.Join(build.Default.GOROOT, "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range archive.File {
		// Factory stands for a machine on which nobody has set a time zone.
		if !strings.HasSuffix(file.Name, "/") && file.Name != "Factory" {
			names = append(names, file.Name)
		}
	}
	slices.Sort(names)
	return names
}

// A time zone that the compiler accepts is one that a gateway can load.
func TestTimeZones(t *testing.T) {
	t.Parallel()
	g := NewWithT(t)
	if *update {
		g.Expect(os.WriteFile("timezones.txt", []byte(strings.Join(zonesOfGo(t), "\n")+"\n"), 0o600)).To(Succeed())
	}
	names, err := os.ReadFile("timezones.txt")
	g.Expect(err).NotTo(HaveOccurred())
	list := strings.Split(strings.TrimSuffix(string(names), "\n"), "\n")
	g.Expect(slices.IsSorted(list)).To(BeTrue())
	g.Expect(list).To(ContainElements("Etc/UTC", "UTC", "Europe/London", "America/Argentina/Buenos_Aires", "Asia/Kolkata", "US/Pacific"))
	for _, name := range list {
		_, err := time.LoadLocation(name)
		g.Expect(err).NotTo(HaveOccurred(), name)
	}
	in := readWorld(t, "schedule-defaults")
	for _, name := range []string{"Local", "local", "Europe/london", "../UTC", "Europe/London\n", "UTC Etc/UTC", "Factory", "+01:00"} {
		in.Flows[0].Spec.Triggers.Schedule.TimeZone = name
		_, diagnostics := compile.Compile(in.source(in.Flows[0]))
		g.Expect(diagnostics.Summary()).To(Equal(
			"spec.triggers.schedule.timeZone: must be a name of the IANA time zone database, such as Europe/London"), name)
	}
}
