/* shm-inspect-screen.h: a whole-screen view on a terminal: alternate screen, size, keys, lines. */
#ifndef SHM_INSPECT_SCREEN_H
#define SHM_INSPECT_SCREEN_H

#include "shm-inspect.h"

enum { KEY_NONE = -1, KEY_END = -2, KEY_ESCAPE = 27, KEY_ENTER = 10, KEY_ERASE = 127 };

/* Takes the terminal over; it is given back at every exit, by signals too, and while the program is
 * stopped. 0, or -1 when standard input and output are no terminal. */
int screen_open(void);
void screen_close(void);
unsigned screen_rows(void);
unsigned screen_columns(void);
/* The next key, or KEY_NONE after a time or when the size changed; KEY_END: input has ended. */
int screen_key(uint64_t timeout_ns);

/* A frame is drawn line by line, cut to the screen; nothing of the one before stays. */
void screen_begin(void);
/* One line; colour for all of it. Text is UTF-8 without control characters. */
void screen_line(enum cli_colour colour, bool inverse, const char *text);
void screen_end(void);

#endif
