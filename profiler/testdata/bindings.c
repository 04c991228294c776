// SPDX-License-Identifier: Apache-2.0

// A library whose every call is bound when it is first made.

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

int call_all(char *s)
{
	volatile long sum = 0;

	sum += isalpha(s[0]) + isdigit(s[1]) + isspace(s[2]) + isupper(s[0]) + tolower(s[1]) + toupper(s[2]);
	sum += strtol(s, NULL, 10) + atol(s) + strtoul(s, NULL, 10) + atoi(s) + labs(sum) + abs((int)sum);
	sum += strcasecmp(s, "b") + strncasecmp(s, "b", 1) + (strstr(s, "x") != NULL) + (strrchr(s, 'x') != NULL);
	sum += strcspn(s, "z") + strspn(s, "a") + (strpbrk(s, "q") != NULL) + (strtok(s, "w") != NULL) + strcoll(s, "b");
	sum += (memmem(s, 2, "k", 1) != NULL) + ffs((int)sum) + wctob(L'a') + btowc('a') + iswalpha(L'a') + iswdigit(L'a');
	sum += towlower(L'A') + towupper(L'a') + (wcschr(L"ab", L'b') != NULL) + (long)wcslen(L"abc") + wcscmp(L"a", L"b");
	return (int)sum;
}
