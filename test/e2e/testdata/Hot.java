// SPDX-License-Identifier: Apache-2.0

/** Three quarters of the work in one function, one quarter in another. */
public class Hot {
	static int work(int n) { int x = 1; for (int i = 0; i < n; i++) x = x * 69069 + x % 7; return x; }
	static int threeQuarters() { int s = 0; for (int i = 0; i < 3; i++) s += work(20000); return s; }
	static int oneQuarter() { return work(20001); }
	static int run() { return threeQuarters() + oneQuarter(); }

	public static void main(String[] args) {
		System.out.println("ready");
		for (int s = 0; ; ) s += run();
	}
}
