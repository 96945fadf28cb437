/* Keeps a greenhouse warm: on below the lower mark, off above the upper one, so that the relay does not chatter. */
#include <stdbool.h>

#define LOWER_DECI_C 180
#define UPPER_DECI_C 215

static bool heating;

bool heater_should_run(int deci_celsius)
{
    if (deci_celsius < LOWER_DECI_C)
        heating = true;
    else if (deci_celsius > UPPER_DECI_C)
        heating = false;
    return heating;
}
