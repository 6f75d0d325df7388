/* The one enum of errors: functions that can fail return 0 or one of these negative values. */
#pragma once

enum error {
	E_INVAL = -1,  /* an argument or an input value is malformed or out of range */
	E_NOMEM = -2,  /* not enough memory */
	E_NOENT = -3,  /* no such thing */
	E_EXIST = -4,  /* it exists already, or ranges overlap */
	E_RANGE = -5,  /* outside of what is allowed or present */
	E_BUSY = -6,   /* in use, or in the wrong state for this */
	E_NOSUPP = -8, /* the hardware or this build cannot do it */
	E_FORMAT = -9, /* input of an unknown or corrupt format */
	E_TRUNC = -10, /* input shorter than it says it is */
	E_FAULT = -11, /* a guest address that is not mapped or not accessible */
};
