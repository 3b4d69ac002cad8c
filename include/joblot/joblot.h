/* joblot/joblot.h - all of joblot's C interface. */
#ifndef JOBLOT_JOBLOT_H
#define JOBLOT_JOBLOT_H

#include <joblot/base.h>
#include <joblot/codec.h>
#include <joblot/ndarray.h>
#include <joblot/pickle.h>
#include <joblot/pool.h>
#include <joblot/segment.h>
#include <joblot/share.h>

#endif
